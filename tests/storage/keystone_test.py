# SPDX-License-Identifier: Apache-2.0
"""Swift behind a real Keystone: passwords, application credentials, regions, tokens that end while magpie works."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import places  # noqa: E402
import harness  # noqa: E402
import servers  # noqa: E402

PROGRAM = os.path.join(harness.ROOT, "tests", "worker", "program.py")
LIFE = 8  # seconds of a token
CASES = ("list", "large", "remove", "folder")  # words in the names of the promises that are looked at here


class Keystone(places.Case):
    server = None

    @classmethod
    def setUpClass(cls):
        try:
            cls.server = servers.KeystoneSwift(os.path.join(places.folder(), "keystone-swift"), LIFE)
            cls.server.make_container("magpie")
        except servers.Unavailable as e:
            raise harness.unittest.SkipTest(str(e).replace("\n", " ")[:300]) from None

    @classmethod
    def tearDownClass(cls):
        if cls.server is not None:
            cls.server.stop()

    def at(self, **changed):
        return places.Place("swift://magpie/" + self.id().rsplit(".", 1)[1][:40], self.server.env(**changed))

    def works(self, place):
        self.suite(place, "put", "a", "seen")
        self.assertEqual(self.suite(place, "get", "a")[0].splitlines()[0], "seen")

    def refused(self, place, *says):
        out, err = self.suite(place, "put", "a", "x", status=1, env={"MAGPIE_STORAGE_PATIENCE": "2s"})
        for text in says:
            self.assertIn(text, out + err)
        self.assertNotIn(self.server.PASSWORD, out + err)

    def tokens_given(self):
        return self.server.keystone.processes[0].stderr().count('"POST /v3/auth/tokens HTTP/1.1" 201')

    def test_names_and_ids_of_user_project_and_domains_are_taken(self):
        self.works(self.at())
        self.works(self.at(OS_USER_DOMAIN_NAME=None, OS_PROJECT_DOMAIN_NAME=None))
        self.works(self.at(OS_USER_DOMAIN_NAME=None, OS_USER_DOMAIN_ID="default", OS_PROJECT_DOMAIN_NAME=None,
                           OS_PROJECT_DOMAIN_ID="default"))
        self.works(self.at(OS_USERNAME=None, OS_USER_DOMAIN_NAME=None, OS_USER_ID=self.server.user_id, OS_PROJECT_NAME=None,
                           OS_PROJECT_DOMAIN_NAME=None, OS_PROJECT_ID=self.server.project_id))
        self.works(self.at(OS_AUTH_URL=self.server.keystone.url()[:-3]))
        self.works(self.at(OS_AUTH_URL=self.server.keystone.url() + "/"))

    def test_an_application_credential_stands_for_user_and_password(self):
        token, _ = self.server.keystone.token("magpie", self.server.PASSWORD, "research")
        made = self.server.keystone.call("POST", f"/users/{self.server.user_id}/application_credentials",
                                         {"application_credential": {"name": "search"}}, token)["application_credential"]
        only = {"OS_USERNAME": None, "OS_PASSWORD": None, "OS_PROJECT_NAME": None, "OS_USER_DOMAIN_NAME": None,
                "OS_PROJECT_DOMAIN_NAME": None, "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"]}
        self.works(self.at(**only, OS_APPLICATION_CREDENTIAL_ID=made["id"]))
        self.works(self.at(**{**only, "OS_USERNAME": "magpie", "OS_USER_DOMAIN_NAME": "Default"}, OS_APPLICATION_CREDENTIAL_NAME="search"))
        self.refused(self.at(**{**only, "OS_APPLICATION_CREDENTIAL_SECRET": "wrong"}, OS_APPLICATION_CREDENTIAL_ID=made["id"]), "401")

    def test_refusals_name_the_variable(self):
        self.refused(self.at(OS_PASSWORD="wrong"), "401", "OS_PASSWORD")
        self.refused(self.at(OS_PROJECT_NAME="nowhere"), "401", "OS_PROJECT_NAME")
        self.refused(self.at(OS_USERNAME="guest", OS_PROJECT_NAME="elsewhere",
                             OS_STORAGE_URL=self.server.root()), "403")
        self.refused(self.at(OS_AUTH_URL=self.server.keystone.url() + "/nothing"), "404", "OS_AUTH_URL")
        self.refused(self.at(OS_USERNAME=None), "OS_USERNAME or OS_USER_ID")
        place = self.at()
        place.url = place.url.replace("swift://magpie", "swift://no-such")
        self.refused(place, 'is there a container "no-such"?')

    def test_region_and_interface_choose_from_the_catalogue(self):
        self.works(self.at(OS_REGION_NAME="here"))
        self.refused(self.at(OS_REGION_NAME="there"), "OS_REGION_NAME")
        self.refused(self.at(OS_INTERFACE="internal"), "OS_INTERFACE")
        self.server.keystone.call("POST", "/regions", {"region": {"id": "there"}})
        self.server.keystone.add_endpoint(self.server.service, "internal", self.server.root(), "there")
        self.works(self.at(OS_REGION_NAME="there", OS_INTERFACE="internal"))
        self.works(self.at(OS_REGION_NAME="there", OS_STORAGE_URL=self.server.root()))

    def test_a_given_token_is_used_until_it_ends(self):
        token, _ = self.server.keystone.token("magpie", self.server.PASSWORD, "research")
        place = places.Place("swift://magpie/given", {"OS_STORAGE_URL": self.server.root(), "OS_AUTH_TOKEN": token})
        self.suite(place, "put", "a", "x")

        def ended():
            said = self.suite(place, "put", "a", "x", status=None)[0]
            return None if said.startswith("ok") else said

        text = harness.wait_until(ended, 60, what="the token's end", every=0.5)
        self.assertIn("401", text)
        self.assertNotIn(token, text)

    def test_promises_of_storage_hold_here_too(self):
        names = harness.subprocess.run([places.SUITE, "--list"], capture_output=True, text=True, check=True).stdout.split()
        some = [n for n in names if any(word in n for word in CASES)]
        self.assertGreaterEqual(len(some), 3)
        for name in some:
            with self.subTest(case=name):
                place = self.at()
                place.url += "/" + name  # each case wants an empty root
                self.suite(place, name, env={"MAGPIE_STORAGE_PAGE": "5", "MAGPIE_STORAGE_PART_MB": "5"})

    def test_a_search_outlives_many_tokens(self):
        env = {**self.server.env(), "PROGRAM_STEP_MS": str(LIFE * 250)}
        d = self.driver("--heartbeat", "200ms", "--lease", "5s", "--storage", "swift://magpie/search", env=env)
        self.worker(d, "--slots", "1", env=env)
        before = self.tokens_given()
        x = d.submit({"name": "tokens", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                      "searchspace": {"x": ["DOUBLE", [0.0, 1.0]]}, "optimizer": {"algorithm": "random"},
                      "resource": {"min": 10, "max": 10}, "limits": {"trials": 1},
                      "trial": {"command": [sys.executable, PROGRAM, "steps"]}})
        d.wait_state(x, timeout=10 * LIFE + 120)
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["value"], t["attempt"], t["losses"], t["checkpoint"]["step"]), ("completed", 10.0, 1, 0, 10))
        self.assertGreaterEqual(self.tokens_given() - before, 2, "tokens were renewed meanwhile")
        self.assertIn("10-1/manifest.json", json.dumps(self.server.objects("magpie")))


if __name__ == "__main__":
    places.main()
