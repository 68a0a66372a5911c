/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB ((int64_t)1 << 20)

/* Writes a file below `root`, with the folders to it. */
static void put(const char *root, const char *path, const char *text)
{
    char full[512];
    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    FILE *f = fopen(full, "we");
    cr_assert_not_null(f, "%s", full);
    (void)fputs(text, f);
    (void)fclose(f);
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

struct file {
    const char *path, *text;
};

static void expect(const char *name, const struct file *files, int64_t free_mb, int64_t total_mb,
                   const char *of)
{
    char root[] = "/tmp/magpie-memory-XXXXXX";
    struct memory m;
    cr_assert_not_null(mkdtemp(root));
    put(root, "/proc/meminfo", "MemTotal: 4194304 kB\nMemFree: 10 kB\nMemAvailable: 2097152 kB\n");
    for (int i = 0; files[i].path != NULL; i++) {
        put(root, files[i].path, files[i].text);
    }
    memory_look(root, &m);
    cr_expect_eq(m.free, free_mb * MB, "%s: %lld free", name, (long long)m.free);
    cr_expect_eq(m.total, total_mb * MB, "%s: %lld in all", name, (long long)m.total);
    cr_expect_str_eq(m.total_of, of, "%s", name);
    (void)nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
}

#define GROUP "its control group"

Test(memory, the_narrowest_control_group_counts_and_cached_files_are_free)
{
    expect("no groups", (struct file[]){{0}}, 2048, 4096, "this machine");
    expect("version 2, the group above",
           (struct file[]){{"/proc/self/cgroup", "0::/a/b\n"},
                           {"/sys/fs/cgroup/a/b/memory.max", "max\n"},
                           {"/sys/fs/cgroup/a/b/memory.current", "1048576\n"},
                           {"/sys/fs/cgroup/a/memory.max", "1073741824\n"},
                           {"/sys/fs/cgroup/a/memory.current", "536870912\n"},
                           {"/sys/fs/cgroup/a/memory.stat",
                            "anon 5\ninactive_file 104857600\nactive_file 104857600\n"},
                           {0}},
           712, 1024, GROUP);
    expect("version 2 in a container, whose own group is the root",
           (struct file[]){{"/proc/self/cgroup", "0::/../not/there\n"},
                           {"/sys/fs/cgroup/memory.max", "104857600\n"},
                           {"/sys/fs/cgroup/memory.current", "209715200\n"},
                           {0}},
           0, 100, GROUP);
    expect("version 1",
           (struct file[]){{"/proc/self/cgroup", "5:cpu:/\n4:memory:/x\n0::/\n"},
                           {"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "536870912\n"},
                           {"/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "268435456\n"},
                           {"/sys/fs/cgroup/memory/x/memory.stat", "total_active_file 1048576\n"},
                           {0}},
           257, 512, GROUP);
    expect("version 1 without a limit",
           (struct file[]){{"/proc/self/cgroup", "4:cpuset,memory:/\n"},
                           {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
                           {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "268435456\n"},
                           {0}},
           2048, 4096, "this machine");
    expect("a group larger than the machine",
           (struct file[]){{"/proc/self/cgroup", "0::/\n"},
                           {"/sys/fs/cgroup/memory.max", "109951162777600\n"},
                           {"/sys/fs/cgroup/memory.current", "0\n"},
                           {0}},
           2048, 4096, "this machine");
}

Test(memory, this_process_holds_some)
{
    struct memory m;
    memory_look("", &m);
    cr_expect_gt(m.total, 0);
    cr_expect_geq(m.free, 0);
    cr_expect_gt(memory_held(), 0);
    cr_expect_leq(memory_held(), m.total);
}
