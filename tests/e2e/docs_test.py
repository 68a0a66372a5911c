# SPDX-License-Identifier: Apache-2.0
"""The documents, carried out: every fenced shell block of README.md and docs/*.md, top to bottom (docs/TESTING.md tells the marks)."""
import glob
import os
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

DOCUMENTS = [os.path.join(harness.ROOT, "README.md"), *sorted(glob.glob(os.path.join(harness.ROOT, "docs", "*.md")))]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Documents(harness.Case):
    def session(self):
        """A folder like a clone's root, with ports and a data folder of its own."""
        self.http, self.nng = free_ports(2)
        os.symlink(os.path.join(harness.ROOT, "examples"), self.path("examples"))
        os.mkdir(self.path("build"))
        os.symlink(harness.MAGPIE, self.path("build", "magpie"))
        self.env = {"XDG_DATA_HOME": self.path("data"), "MAGPIE_LIBEXEC": os.path.join(harness.BUILD, "trainer"),
                    "PWD": self.tmp, "PYTHONPATH": harness.CLIENT, "MAGPIE_BIN": harness.MAGPIE}

    def mine(self, text):
        """The commands with this session's ports instead of the usual ones."""
        text = re.sub(r"(magpie driver)\b", rf"\1 --http 127.0.0.1:{self.http} --listen tcp://127.0.0.1:{self.nng}", text)
        text = re.sub(r"(magpie run )", rf"\1--http 127.0.0.1:0 --data {self.tmp}/run-data ", text)
        return text.replace("127.0.0.1:8470", f"127.0.0.1:{self.http}").replace("127.0.0.1:8471", f"127.0.0.1:{self.nng}")

    def carry_out(self, mark, body):
        kind, _, rest = mark.partition(":")
        if kind == "file":
            self.write(rest.strip(), body)
            return
        self.assertEqual(kind, "run", f"unknown mark: {mark}")
        p = self.start(["sh", "-euc", self.mine(body)], "block", env=self.env, cwd=self.tmp)
        until = re.fullmatch(r'\s*background, until "(.*)"', rest)
        if until:
            harness.wait_until(lambda: until.group(1) in p.stdout() + p.stderr(), what=f"{until.group(1)!r} of {body}")
            return
        self.assertEqual(rest, "", f"unknown mark: {mark}")
        self.assertEqual(p.wait(120), 0, f"{body}\n{p.stdout()}{p.stderr()}")

    def test_every_block_of_every_document_works(self):
        ran = 0
        for document in DOCUMENTS:
            name = os.path.relpath(document, harness.ROOT)
            with open(document, encoding="utf-8") as f:
                blocks = list(BLOCK.finditer(f.read()))
            if not any((b["mark"] or "").startswith("run") for b in blocks):
                continue
            with self.subTest(document=name):
                self.setUp()
                self.session()
                for b in blocks:
                    mark = b["mark"] or ""
                    if mark.startswith(("run", "file")):
                        self.carry_out(mark, b["body"])
                        ran += 1
                self._clean()
        self.assertGreaterEqual(ran, 6)

    def test_every_shell_block_says_how_it_is_tested(self):
        for document in DOCUMENTS:
            with open(document, encoding="utf-8") as f:
                for b in BLOCK.finditer(f.read()):
                    if b["kind"] in ("sh", "bash", "console"):
                        self.assertRegex(b["mark"] or "", r"^(run|skip|file)", f"{document}:\n{b['body']}")

    def test_the_list_of_commands_is_what_help_prints(self):
        made = subprocess.run([os.path.join(harness.ROOT, "tools", "gen-cli-doc"), harness.MAGPIE], check=True,
                              capture_output=True, text=True).stdout
        with open(os.path.join(harness.ROOT, "docs", "CLI.md"), encoding="utf-8") as f:
            self.assertEqual(f.read(), made, "run tools/gen-cli-doc build/magpie > docs/CLI.md")

    def test_links_between_documents_lead_somewhere(self):
        for document in DOCUMENTS + [os.path.join(harness.ROOT, n) for n in ("CONTRIBUTING.md", "NEWS.md")]:
            with open(document, encoding="utf-8") as f:
                for target in re.findall(r"\]\(([^)#]+)[^)]*\)", f.read()):
                    if "://" not in target:
                        path = os.path.join(os.path.dirname(document), target)
                        self.assertTrue(os.path.exists(path), f"{document}: {target}")


if __name__ == "__main__":
    harness.main()
