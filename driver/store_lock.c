/* SPDX-License-Identifier: Apache-2.0
 *
 * Guards of the store's file: one owner at a time, and no file system on which SQLite's locks and
 * shared memory do not hold.
 */
#include "driver/store_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static void read_owner(int fd, char *owner, size_t size)
{
    ssize_t n = pread(fd, owner, size - 1, 0);
    owner[n > 0 ? n : 0] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    if (owner[0] == '\0') {
        (void)snprintf(owner, size, "another process");
    }
}

/* An owner that was told to stop still closes its connections, which may take two seconds. */
static bool lock_soon(int fd)
{
    int64_t end = clock_mono_ns() + STORE_LOCK_WAIT_MS * MAG_NS_PER_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || clock_mono_ns() > end) {
            return false;
        }
        (void)poll(NULL, 0, 20);
    }
    return true;
}

enum mag_status store_lock_take(const char *path, int *ret_fd, struct mag_err *err)
{
    char *lock = xasprintf("%s.lock", path);
    char owner[320];
    enum mag_status st = MAG_OK;
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        st = mag_fail(err, MAG_IO, "%s: %s", lock, strerror(errno));
        goto out;
    }
    if (!lock_soon(fd)) {
        read_owner(fd, owner, sizeof(owner));
        st = mag_fail(err, MAG_CONFLICT,
                      "the store %s is in use by %s; stop that driver, or use another data folder",
                      path, owner);
        goto out;
    }
    char host[256] = "";
    (void)gethostname(host, sizeof(host) - 1);
    int n = snprintf(owner, sizeof(owner), "pid %ld on host %s\n", (long)getpid(), host);
    /* The text is for people only: the lock is the flock, so a full disk must not keep us out. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, owner, (size_t)n, 0) != n) {
        errno = 0;
    }
    *ret_fd = fd;
    fd = -1;
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    free(lock);
    return st;
}

const char *store_network_fs(unsigned long f_type)
{
    static const struct {
        unsigned long type;
        const char *name;
    } network[] = {
        {0x6969, "NFS"},        {0x517B, "SMB"},        {0xFF534D42, "CIFS"},
        {0xFE534D42, "SMB2"},   {0x0BD00BD0, "Lustre"}, {0x00C36400, "Ceph"},
        {0x5346414F, "AFS"},    {0x73757245, "Coda"},   {0x47504653, "GPFS"},
        {0x19830326, "BeeGFS"}, {0xAAD7AAEA, "PanFS"},  {0x7461636F, "OCFS2"},
        {0x01161970, "GFS2"},   {0x564C, "NCP"},
    };
    for (size_t i = 0; i < sizeof(network) / sizeof(network[0]); i++) {
        if ((f_type & 0xFFFFFFFFUL) == network[i].type) {
            return network[i].name;
        }
    }
    return NULL;
}

enum mag_status store_check_fs(const char *path, struct mag_err *err)
{
    char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) {
        slash[slash == folder ? 1 : 0] = '\0';
    }
    struct statfs fs;
    enum mag_status st = MAG_OK;
    if (statfs(slash != NULL ? folder : ".", &fs) != 0) {
        st = mag_fail(err, MAG_IO, "%s: %s", folder, strerror(errno));
    } else {
        const char *name = store_network_fs((unsigned long)fs.f_type);
        if (fault_hit("store.network-fs")) {
            name = "NFS";
        }
        if (name != NULL) {
            st = mag_fail(
                err, MAG_UNSUPPORTED,
                "%s lies on a network file system (%s), where the store cannot be kept safe; "
                "put the data folder on a local disk",
                path, name);
        }
    }
    free(folder);
    return st;
}

void store_extend_wal(const char *path, int64_t bytes)
{
    static const char zeros[65536];
    char *wal = xasprintf("%s-wal", path);
    int fd = open(wal, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    free(wal);
    struct stat sb;
    if (fd < 0 || fstat(fd, &sb) != 0) {
        goto out;
    }
    int64_t had = sb.st_size;
    for (int64_t at = had; at < bytes;) {
        size_t n = bytes - at < (int64_t)sizeof(zeros) ? (size_t)(bytes - at) : sizeof(zeros);
        ssize_t done = pwrite(fd, zeros, n, at);
        if (done <= 0) {
            /* Give the room back: rows need it more. */
            if (ftruncate(fd, had) != 0) {
                errno = 0;
            }
            goto out;
        }
        at += done;
    }
    (void)fsync(fd);
out:
    if (fd >= 0) {
        (void)close(fd);
    }
}
