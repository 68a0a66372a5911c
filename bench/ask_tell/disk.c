/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/ask_tell/disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define WRITES 300

static const struct {
    unsigned long type;
    const char *name;
    bool memory;
} known[] = {
    {0xEF53, "ext4", false},     {0x58465342, "xfs", false},  {0x9123683E, "btrfs", false},
    {0x2FC12FC1, "zfs", false},  {0xF2F52010, "f2fs", false}, {0x794C7630, "overlay", false},
    {0x01021994, "tmpfs", true}, {0x858458F6, "ramfs", true}, {0x958458F6, "hugetlbfs", true},
};

/* /dev/ram and zram look like disks and forget like memory. */
static bool is_ram_device(dev_t dev, char *name, size_t size)
{
    char link[64];
    char target[256] = "";
    (void)snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    if (readlink(link, target, sizeof(target) - 1) < 0) {
        return false;
    }
    const char *last = strrchr(target, '/');
    bool ram =
        last != NULL && (strncmp(last + 1, "ram", 3) == 0 || strncmp(last + 1, "zram", 4) == 0);
    if (ram) {
        (void)snprintf(name, size, "RAM disk %s", last + 1);
    }
    return ram;
}

bool disk_name(const char *folder, char *name, size_t size)
{
    struct statfs fs;
    struct stat sb;
    if (statfs(folder, &fs) != 0 || stat(folder, &sb) != 0) {
        (void)snprintf(name, size, "no file system that can be read");
        return false;
    }
    (void)snprintf(name, size, "type 0x%lx", (unsigned long)fs.f_type);
    bool memory = false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].type == ((unsigned long)fs.f_type & 0xFFFFFFFFUL)) {
            (void)snprintf(name, size, "%s", known[i].name);
            memory = known[i].memory;
        }
    }
    return !memory && !is_ram_device(sb.st_dev, name, size);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double now_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

bool disk_fdatasync(const char *folder, struct disk_rate *ret)
{
    static const char block[4096];
    char path[512];
    double us[WRITES];
    bool ok = true;
    (void)snprintf(path, sizeof(path), "%s/fdatasync.tmp", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    for (int i = 0; i < WRITES; i++) {
        ok = ok && pwrite(fd, block, sizeof(block), (off_t)i * (off_t)sizeof(block)) ==
                       (ssize_t)sizeof(block);
    }
    ok = ok && fsync(fd) == 0;
    for (int i = 0; i < WRITES && ok; i++) {
        double start = now_us();
        ok = pwrite(fd, block, sizeof(block), (off_t)i * (off_t)sizeof(block)) ==
                 (ssize_t)sizeof(block) &&
             fdatasync(fd) == 0;
        us[i] = now_us() - start;
    }
    (void)close(fd);
    (void)unlink(path);
    if (ok) {
        qsort(us, WRITES, sizeof(us[0]), compare);
        ret->median_us = us[WRITES / 2];
        ret->p99_us = us[WRITES * 99 / 100];
        ret->per_second = 1e6 / ret->median_us;
    }
    return ok;
}
