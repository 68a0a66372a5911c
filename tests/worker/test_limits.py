#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a program may take and leave: memory, output, processes, files, time, descriptors; its surroundings; retries by cause."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PYTHON = sys.executable


class Limits(harness.Case):
    def join(self, *flags, **kw):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        return d, self.worker(d, "--slots", "1", "--grace", "300ms", *flags, **kw)

    def spec(self, command, executor=False, **more):
        s = {"name": "limits", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
             "searchspace": {"x": {"type": "CATEGORICAL", "values": ["a"]}}, "optimizer": {"algorithm": "grid"},
             "limits": {"retries": 0, "failures": 0},
             "trial": {"executor" if executor else "command": command, **more.pop("trial", {})}}
        s["limits"].update(more.pop("limits", {}))
        s.update(more)
        return s

    def one(self, d, command, timeout=90, **more):
        """The trial after its end."""
        x = d.submit(self.spec(command, **more))
        d.wait_state(x, "completed", timeout)
        return d.trials(x)[0]

    def python(self, d, code, **more):
        return self.one(d, [PYTHON, "-c", code], **more)

    def gone(self, path):
        with open(path) as f:
            pids = [int(line) for line in f]
        self.assertGreater(len(pids), 0)
        harness.wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), what="the end of what was left")

    # ---- memory ----

    GROW = ("import time\nkeep=[]\nprint('::magpie {\"metrics\":{\"value\":1}}', flush=True)\n"
            "while True: keep.append(b'x'*(4<<20)); time.sleep(0.01)")

    def test_a_program_over_its_memory_is_ended_and_both_sizes_are_named(self):
        d, w = self.join()
        t = self.python(d, self.GROW, limits={"memory": "100MB"})
        self.assertEqual((t["state"], t["cause"]), ("failed", "out-of-memory"), t)
        self.assertRegex(t["reason"], r"^it used (1\d\d|2\d\d) MB of memory; limits.memory allows 100 MB$")
        self.assertTrue(w.alive())

    def test_one_large_request_meets_the_wall_behind_the_limit(self):
        d, _ = self.join()
        t = self.python(d, "keep = bytearray(8 << 30)", limits={"memory": "100MB"})
        self.assertEqual((t["state"], t["cause"]), ("failed", "out-of-memory"), t)
        self.assertIn("limits.memory allows 100 MB; last line: MemoryError", t["reason"])

    def test_the_memory_of_children_counts(self):
        d, _ = self.join()
        code = ("import subprocess,sys\n"
                "p=[subprocess.Popen([sys.executable,'-c','x=b\"y\"*(60<<20)\\nimport time\\ntime.sleep(100)'],"
                " start_new_session=True) for _ in range(3)]\n[q.wait() for q in p]")
        t = self.python(d, code, limits={"memory": "150MB"})
        self.assertEqual((t["state"], t["cause"]), ("failed", "out-of-memory"), t)
        self.assertIn("limits.memory allows 150 MB", t["reason"])

    def test_a_program_within_its_memory_is_left_alone_and_its_peak_is_shown(self):
        d, _ = self.join()
        t = self.python(d, "x = b'y' * (60 << 20); print('::magpie {\"result\": {\"value\": 1}}')", limits={"memory": "400MB"})
        self.assertEqual(t["state"], "completed", t)
        self.assertGreaterEqual(t["memory_mb"], 60)
        self.assertLess(t["memory_mb"], 400)

    def test_an_executor_over_its_memory_is_replaced(self):
        d, _ = self.join()
        code = ("import json,os,socket,time\ns=socket.socket(fileno=3)\ns.sendall(b'{\"type\":\"ready\"}\\n')\nf=s.makefile()\nkeep=[]\n"
                "for line in f:\n"
                "  m=json.loads(line)\n"
                "  while m['params']['x']=='big': keep.append(b'x'*(4<<20)); time.sleep(0.01)\n"
                "  s.sendall(b'{\"type\":\"result\",\"status\":\"completed\",\"metrics\":{\"value\":1}}\\n{\"type\":\"ready\"}\\n')\n")
        s = self.spec([PYTHON, "-c", code], executor=True, limits={"memory": "100MB"})
        s["searchspace"]["x"]["values"] = ["a", "big", "b"]
        x = d.submit(s)
        d.wait_state(x)
        self.assertEqual([(t["state"], t["cause"]) for t in d.trials(x)],
                         [("completed", None), ("failed", "out-of-memory"), ("completed", None)])

    def test_a_retry_for_lack_of_memory_waits_until_there_is_some(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        w = self.worker(d, "--slots", "2", env={"MAGPIE_FAULTS": "worker.memory=fail*"})
        go = self.path("go")
        code = ("import os,sys,time\n"
                "if os.environ['MAGPIE_ATTEMPT']=='1' and sys.argv[1]=='a': sys.exit('MemoryError')\n"
                f"while sys.argv[1]=='b' and not os.path.exists({go!r}): time.sleep(0.01)\n"
                "print('::magpie {\"result\": {\"value\": 1}}')")
        s = self.spec([PYTHON, "-c", code, "${x}"], limits={"retries": 2})
        s["searchspace"]["x"]["values"] = ["a", "b"]
        x = d.submit(s)
        harness.wait_until(lambda: "trial-waits" in w.stderr(), what="the retry to wait for memory")
        t = d.trials(x)[0]
        self.assertEqual((t["attempt"], t["failures"], t["cause"]), (2, 1, "out-of-memory"), t)
        open(go, "w").close()  # the other one ends: it has the machine for itself
        d.wait_state(x)
        self.assertEqual([t["state"] for t in d.trials(x)], ["completed", "completed"])
        log = d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log")[2].decode(errors="replace")
        self.assertIn("the attempt before ran out of memory: waiting for", log)

    def test_a_builtin_trial_too_large_for_its_limit_fails_alone_and_is_not_tried_again(self):
        d, _ = self.join()
        data = self.path("data.csv")
        with open(data, "w") as f:
            f.write("a,b,y\n" + "".join("%d,%d,%d\n" % (i, i % 7, i % 2) for i in range(200)))
        s = {"name": "large", "objective": {"metric": "val_loss", "direction": "min"}, "seed": 1, "optimizer": {"algorithm": "grid"},
             "searchspace": {"units": {"type": "DISCRETE", "values": [4, 10000, 8]}}, "limits": {"retries": 2, "memory": "300MB"},
             "trial": {"program": "builtin", "dataset": f"csv:{data}?label=y",
                       "model": {"layers": [{"type": "dense", "units": "${units}", "repeat": 2}, {"type": "dense", "units": 2}]},
                       "training": {"epochs": 1}}}
        x = d.submit(s)
        d.wait_state(x)
        small, large, last = d.trials(x)
        self.assertEqual((small["state"], last["state"]), ("completed", "completed"))
        self.assertEqual((large["state"], large["cause"], large["attempt"]), ("failed", "out-of-memory", 1), large)
        self.assertRegex(large["reason"], r"the model needs 1\.\d GB: weights 0\.4, .*of limits\.memory's 300\.0 MB")

    # ---- output ----

    def test_ten_gigabytes_of_output_fill_neither_disk_nor_memory(self):
        d, w = self.join()
        # As much as a second of it brings; the rest is what limits.output is for.
        t = self.one(d, ["sh", "-c", "head -c 10000000000 /dev/zero | tr '\\0' y"], limits={"output": "300MB"})
        self.assertEqual((t["state"], t["cause"]), ("failed", "program"), t)
        self.assertIn("it wrote more than 300 MiB of output (limits.output)", t["reason"])
        with open(f"/proc/{w.pid}/status") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        self.assertLess(peak, 290 << 10, "KiB of the worker: less than it read, also where freed memory is kept for a sanitizer")
        size = sum(os.path.getsize(os.path.join(p, n)) for p, _, names in os.walk(self.tmp) for n in names)
        self.assertLess(size, 64 << 20)

    def test_a_line_without_end_and_bytes_that_are_no_text_do_no_harm(self):
        d, _ = self.join()
        code = ("import os\nos.write(1, b'x'*(5<<20))\nos.write(1, b'\\n'+bytes(range(256))*100+b'\\n')\n"
                "os.write(1, b'::magpie {\"result\": {\"value\": 3}}')")
        self.assertEqual(self.python(d, code)["value"], 3)

    def test_closed_output_and_output_kept_open_by_a_grandchild_hang_nothing(self):
        d, _ = self.join()
        pids = self.path("pids")
        t = self.python(d, "import os,time\nprint('::magpie {\"result\": {\"value\": 1}}', flush=True)\nos.close(1); os.close(2)\n"
                           "time.sleep(0.3)")
        self.assertEqual((t["state"], t["value"]), ("completed", 1))
        t = self.one(d, ["sh", "-c", f"echo '::magpie {{\"result\": {{\"value\": 2}}}}'; setsid sleep 1000 & echo $! > {pids}"])
        self.assertEqual((t["state"], t["value"]), ("completed", 2))
        self.gone(pids)

    # ---- processes ----

    def test_nothing_that_a_program_starts_outlives_it(self):
        d, _ = self.join()
        pids = self.path("pids")
        code = ("import os,time,signal\n"
                "def leave(deep):\n"
                "  if os.fork(): return\n"
                "  os.setsid()\n"
                "  signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "  if deep and os.fork(): os._exit(0)\n"
                f"  open({pids!r},'a').write(f'{{os.getpid()}}\\n')\n"
                "  if deep and os.fork() == 0:\n"
                f"    open({pids!r},'a').write(f'{{os.getpid()}}\\n')\n"
                "    time.sleep(1000)\n"
                "  time.sleep(1000)\n"
                "leave(False); leave(True); leave(True)\n"
                f"while not os.path.exists({pids!r}) or len(open({pids!r}).readlines()) < 5: time.sleep(0.01)\n"
                "print('::magpie {\"result\": {\"value\": 1}}')")
        self.assertEqual(self.python(d, code)["value"], 1)
        self.gone(pids)

    def test_a_fork_bomb_ends_at_the_limit_of_processes(self):
        d, w = self.join()
        pids = self.path("pids")
        # A tame one: it ends by itself beyond any doubt.
        code = ("import os,time\n"
                "end=time.monotonic()+20\nn=0\n"
                "while time.monotonic()<end and n<400:\n"
                "  n+=1\n"
                "  if os.fork()==0:\n"
                "    if n%2: os.setsid()\n"
                f"    open({pids!r},'a').write(f'{{os.getpid()}}\\n')\n"
                "    time.sleep(30); os._exit(0)\n"
                "time.sleep(20)")
        t = self.python(d, code, limits={"processes": 30})
        self.assertEqual((t["state"], t["cause"]), ("failed", "program"), t)
        self.assertRegex(t["reason"], r"^it had \d+ processes; limits.processes allows 30$")
        self.gone(pids)
        self.assertTrue(w.alive())

    # ---- surroundings ----

    SHOW = ("import json,os,resource,sys\n"
            "r=resource\n"
            "print('::magpie '+json.dumps({'result':{'value':1}}))\n"
            "json.dump({'env':dict(os.environ),'cwd':os.getcwd(),'core':r.getrlimit(r.RLIMIT_CORE),'files':r.getrlimit(r.RLIMIT_NOFILE),"
            "'fds':sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1],'group':os.getpgid(0)==os.getpid(),"
            "'ignored':[n for n in (1,2,13,15) if __import__('signal').getsignal(n)==__import__('signal').SIG_IGN and n!=13]},"
            "open(sys.argv[1],'w'))")

    def shown(self, d, **more):
        path = self.path("shown.json")
        t = self.one(d, [PYTHON, "-c", self.SHOW, path], **more)
        self.assertEqual(t["state"], "completed", t)
        with open(path) as f:
            return json.load(f)

    def test_a_program_finds_the_surroundings_that_the_protocol_promises(self):
        d, _ = self.join(env={"MINE": "yes", "OMP_NUM_THREADS": "7", "MAGPIE_TOKEN": d_token(), "GONE": "x"})
        home = self.path("home")
        os.mkdir(home)
        s = self.shown(d, limits={"files": 99}, trial={"cwd": home, "env": {"A": "v-${x}", "GONE": None, "MINE": "${x}"}})
        e = s["env"]
        self.assertEqual((s["cwd"], s["core"][0], s["files"], s["group"], s["ignored"]), (home, 0, [99, 99], True, []))
        self.assertEqual(s["fds"], [0, 1, 2, 3])
        self.assertEqual((e["A"], e["MINE"], e["OMP_NUM_THREADS"], e["MAGPIE_FD"], e["MAGPIE_SEED"]), ("v-a", "a", "7", "3", "1"))
        for absent in ("GONE", "MAGPIE_TOKEN", "MAGPIE_RESUME_FROM", "CUDA_VISIBLE_DEVICES"):
            self.assertNotIn(absent, e)

    def test_gpus_are_narrowed_to_those_of_the_slot(self):
        uuid, mig = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-5c3d5fd2-0d5d-5d2e-9e0e-0c8b6d0a1f3b"
        for visible, flags, want in ((f"{uuid},{mig}", ("--slots", "1"), f"{uuid},{mig}"), ("4,5", ("--gpus", "5"), "5"),
                                     ("4,5", ("--gpus", "none"), ""), ("NoDevFiles", (), "NoDevFiles")):
            with self.subTest(visible=visible, flags=flags):
                d, w = self.join(*flags, env={"CUDA_VISIBLE_DEVICES": visible})
                self.assertEqual(self.shown(d)["env"]["CUDA_VISIBLE_DEVICES"], want)
                w.stop()
                d.stop()
        p = self.magpie("worker", "--gpus", "0", "--driver", "tcp://127.0.0.1:1", env={"CUDA_VISIBLE_DEVICES": "4,5"}, status=2)
        self.assertIn('--gpus 0: "0" is not among CUDA_VISIBLE_DEVICES=4,5; choose from those', p.stderr())

    def test_a_working_folder_that_is_not_there_is_a_configuration_error(self):
        d, _ = self.join()
        t = self.one(d, ["./train"], trial={"cwd": self.path("nowhere")}, limits={"retries": 5})
        self.assertEqual((t["state"], t["cause"], t["attempt"]), ("failed", "configuration", 1), t)
        self.assertIn(f'its working folder "{self.path("nowhere")}" (trial.cwd): No such file', t["reason"])
        t = self.one(d, ["./train"], trial={"cwd": self.tmp})
        self.assertEqual(t["reason"], f'cannot start "./train": No such file or directory, seen from {self.tmp}')

    def test_what_cannot_be_started_says_how_to_mend_it(self):
        d, _ = self.join()
        script = self.write("train.py", "#!/nowhere/python\nprint(1)\n")
        t = self.one(d, [script])
        self.assertIn("Permission denied; make it executable (chmod +x), or start it by its interpreter", t["reason"])
        os.chmod(script, 0o755)
        t = self.one(d, [script], limits={"retries": 2})
        self.assertEqual((t["cause"], t["attempt"]), ("configuration", 1), t)
        self.assertIn(f'magpie: cannot start "{script}": No such file', t["reason"])
        self.assertEqual(self.one(d, ["python4"])["reason"], 'cannot start "python4": no such program in this worker\'s PATH')

    # ---- time, retries ----

    def test_an_experiments_grace_counts_instead_of_the_workers(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        self.worker(d, "--slots", "1", "--grace", "1h")
        t = self.one(d, ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], trial={"grace": "200ms"}, limits={"trial_time": "500ms"})
        self.assertEqual((t["state"], t["cause"]), ("failed", "timeout"), t)

    def test_failures_that_may_pass_are_tried_again_and_configuration_never_is(self):
        d, _ = self.join()
        for code, cause, attempts in (("kill -SEGV $$", "signal", 3), ("exit 1", "program", 1), ("exit 75", "program", 3), ("exit 78", "configuration", 1),
                                      ("echo 'std::bad_alloc' >&2; exit 134", "out-of-memory", 3), ("kill -KILL $$", "signal", 3)):
            with self.subTest(code=code):
                t = self.one(d, ["sh", "-c", code], limits={"retries": 2})
                self.assertEqual((t["state"], t["cause"], t["attempt"], t["failures"]), ("failed", cause, attempts, attempts), t)

    def test_the_last_error_and_the_number_of_failures_are_shown(self):
        d, _ = self.join()
        x = d.submit(self.spec(["sh", "-c", "echo 'no such luck'; exit 75"], limits={"retries": 1}))
        d.wait_state(x)
        f = d.experiment(x)["failures"]
        self.assertEqual((f["count"], f["trial"], f["retries"], f["cause"]), (2, 1, 1, "program"), f)
        self.assertIn("last line: no such luck", f["reason"])
        shown = self.magpie("show", str(x), "--url", d.http).stdout()
        self.assertRegex(shown, r"(?m)^failures +2; the last: trial 1: exit status 75; last line: no such luck$")
        listed = self.magpie("trials", str(x), "--url", d.http).stdout()
        self.assertRegex(listed, r"(?m)^ *1 +failed +2 +2 .*exit status 75; last line: no such luck")

    def test_an_executor_that_closes_its_channel_and_lives_on_is_ended(self):
        d, _ = self.join()
        code = "import os,time\nos.write(3,b'{\"type\":\"ready\"}\\n')\nos.read(3,10000)\nos.close(3)\ntime.sleep(1000)"
        t = self.one(d, [PYTHON, "-c", code], executor=True)
        self.assertEqual((t["state"], t["reason"]), ("failed", "it closed its channel (MAGPIE_FD) and did not exit"), t)

    def test_an_objective_that_is_no_number_is_named(self):
        d, _ = self.join()
        t = self.python(d, "print('::magpie {\"step\": 1, \"metrics\": {\"value\": \"high\"}}')")
        self.assertEqual(t["cause"], "no-metric")
        self.assertIn('"value" must be a number, not a string', t["reason"])


def cgroup2():
    """Where groups may be made, or None."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            if " - cgroup2 " in line:
                return line.split()[4]
    return None


class ControlGroups(harness.Case):
    def setUp(self):
        super().setUp()
        at = cgroup2()
        self.group = at and os.path.join(at, os.path.basename(self.tmp))
        try:
            os.mkdir(self.group)
            if "memory" in open(os.path.join(at, "cgroup.controllers")).read():
                with open(os.path.join(at, "cgroup.subtree_control"), "w") as f:
                    f.write("+memory +pids")
        except (TypeError, OSError) as e:
            self.skipTest(f"no control group may be made here: {e}")
        self.addCleanup(self.remove)

    def remove(self):
        harness.kill_descendants()
        for name in sorted(os.listdir(self.group)):
            if os.path.isdir(os.path.join(self.group, name)):
                harness.wait_until(lambda: not self.held(name), what="the group's end")
                os.rmdir(os.path.join(self.group, name))
        os.rmdir(self.group)

    def held(self, name):
        with open(os.path.join(self.group, name, "cgroup.procs")) as f:
            return f.read()

    def run_one(self, code, **limits):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        w = self.worker(d, "--slots", "1", "--cgroup", self.group)
        s = {"objective": {"metric": "value", "direction": "max"}, "searchspace": {"x": ["INTEGER", [1, 1]]}, "optimizer": {"algorithm": "grid"},
             "limits": {"retries": 0, **limits}, "trial": {"command": [PYTHON, "-c", code]}}
        x = d.submit(s)
        d.wait_state(x)
        return w, d.trials(x)[0]

    def test_a_program_runs_and_ends_in_a_group_of_its_own(self):
        pids = self.path("pids")
        code = ("import os,time\n"
                "assert '/trial-' in [l for l in open('/proc/self/cgroup') if l.startswith('0::')][0]\n"
                "for k in range(3):\n"
                "  if os.fork() == 0:\n"
                "    os.setsid(); os.environ.clear()\n"
                f"    open({pids!r},'a').write(f'{{os.getpid()}}\\n')\n"
                "    time.sleep(1000)\n"
                f"while not os.path.exists({pids!r}) or len(open({pids!r}).readlines()) < 3: time.sleep(0.01)\n"
                "print('::magpie {\"result\": {\"value\": 1}}')")
        w, t = self.run_one(code)
        self.assertEqual((t["state"], t["value"]), ("completed", 1), t)
        with open(pids) as f:
            left = [int(line) for line in f]
        harness.wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in left), what="the end of what was left")
        self.assertEqual(int(self.held("magpie-worker").split()[0]), w.pid)
        self.assertEqual(w.stop(), 0)
        self.assertEqual([n for n in os.listdir(self.group) if n.startswith("trial-")], [])

    def test_the_kernel_keeps_its_memory(self):
        with open(os.path.join(self.group, "cgroup.controllers")) as f:
            if "memory" not in f.read():
                self.skipTest("the kernel's memory controller is not in version 2 here")
        _, t = self.run_one("keep = b'x' * (500 << 20)", memory="100MB")
        self.assertEqual((t["state"], t["cause"]), ("failed", "out-of-memory"), t)
        self.assertIn("limits.memory allows 100 MB", t["reason"])

    def test_a_folder_that_is_no_group_is_refused(self):
        p = self.magpie("worker", "--cgroup", self.tmp, "--driver", "tcp://127.0.0.1:1", status=2)
        self.assertIn(f"--cgroup {self.tmp}: no control group (version 2)", p.stderr())


def d_token():
    return "a-token-that-nobody-asks-for"


class Preemption(harness.Case):
    """Batch systems take machines away: with a notice, with SIGTERM, to the worker alone or to everything at once."""
    STEPS = ("import os,sys,time,signal\n"
             "signal.signal(signal.SIGTERM, {0} )\n"
             "d=os.environ['MAGPIE_CHECKPOINT_DIR']\n"
             "f=os.environ.get('MAGPIE_RESUME_FROM')\n"
             "first=int(open(f+'/s').read()) if f else 0\n"
             "for step in range(first+1, 61):\n"
             "  print('::magpie {{\"step\":%d,\"metrics\":{{\"value\":%d}}}}' % (step, step), flush=True)\n"
             "  os.mkdir(f'{{d}}/{{step}}'); open(f'{{d}}/{{step}}/s','w').write(str(step))\n"
             "  print('::magpie {{\"checkpoint\":%d}}' % step, flush=True)\n"
             "  time.sleep(0.05)\n")

    def begin(self, handler="signal.SIG_DFL", *flags, **env):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        w = self.worker(d, "--slots", "1", *flags, env=env)
        s = {"objective": {"metric": "value", "direction": "max"}, "searchspace": {"x": ["DOUBLE", [0, 1]]}, "resource": {"max": 60},
             "optimizer": {"algorithm": "random"}, "limits": {"trials": 1, "retries": 0, "losses": 0},
             "trial": {"command": [PYTHON, "-c", self.STEPS.format(handler)]}}
        x = d.submit(s)
        harness.wait_until(lambda: (d.trials(x) or [{}])[0].get("checkpoint"), what="a checkpoint")
        return d, w, x

    def goes_on_elsewhere(self, d, w, x):
        self.assertEqual(w.wait(), 0, w.stderr())
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["failures"], t["losses"]), ("waiting", 0, 0), t)
        self.worker(d, "--slots", "1")
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["value"], t["attempt"]), ("completed", 60, 2), t)
        steps = [m["step"] for m in d.get(f"/api/v1/experiments/{x}/trials/1/metrics?limit=1000")["metrics"]]
        self.assertLess(len(steps), 70, "it went on from its checkpoint")

    def test_a_notice_gives_trials_back_uncounted_and_the_sigterm_after_it_does_not_hurry(self):
        d, w, x = self.begin("lambda *_: (time.sleep(0.5), sys.exit(0))")
        w.signal(signal.SIGUSR1)
        harness.wait_until(lambda: "draining" in w.stderr())
        w.signal(signal.SIGTERM)
        w.signal(signal.SIGUSR1)
        self.goes_on_elsewhere(d, w, x)
        self.assertNotIn("are killed", w.stderr())

    def test_sigterm_in_a_job_of_a_batch_system_is_a_notice(self):
        d, w, x = self.begin(SLURM_JOB_ID="7")
        w.signal(signal.SIGTERM)
        self.goes_on_elsewhere(d, w, x)

    def test_sigterm_means_what_on_term_says(self):
        d, w, x = self.begin("signal.SIG_DFL", "--on-term", "finish", SLURM_JOB_ID="7")
        w.signal(signal.SIGTERM)
        self.assertEqual(w.wait(), 0)
        self.assertEqual((d.trials(x)[0]["state"], d.trials(x)[0]["attempt"]), ("completed", 1))
        d.stop()
        d, w, x = self.begin("signal.SIG_DFL", "--on-term", "checkpoint")
        w.signal(signal.SIGTERM)
        self.goes_on_elsewhere(d, w, x)

    def test_a_signal_to_everything_at_once_costs_no_retry(self):
        d, w, x = self.begin(SLURM_JOB_ID="7")
        program = next(p for p in harness.living() if harness.command_line(p)[:2] == [PYTHON, "-c"])
        os.kill(program, signal.SIGTERM)  # the program first: the worse order
        harness.wait_until(lambda: not os.path.exists(f"/proc/{program}"))
        w.signal(signal.SIGTERM)
        self.goes_on_elsewhere(d, w, x)

    def test_a_signal_to_the_program_alone_is_a_failure(self):
        d, _, x = self.begin()
        program = next(p for p in harness.living() if harness.command_line(p)[:2] == [PYTHON, "-c"])
        os.kill(program, signal.SIGTERM)
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["cause"]), ("failed", "signal"), t)
        self.assertIn("killed by signal 15 (Terminated)", t["reason"])


if __name__ == "__main__":
    harness.main()
