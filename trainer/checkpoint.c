/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/checkpoint.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "checkpoints are written as they lie in memory");
_Static_assert(sizeof(float) == 4, "checkpoints hold 32-bit floats");

static const char magic[8] = {'M', 'A', 'G', 'P', 'I', 'E', 'C', 'K'};
static const char *const optimizer_names[OPTIMIZERS] = {"sgd", "adam", "rmsprop", "adagrad",
                                                        "lamb"};

/* What is saved of every array. */
static unsigned slots_of(const struct checkpoint_info *info)
{
    return SLOT_BIT(SLOT_VALUE) | SLOT_BIT(SLOT_FIRST) |
           (info->optimizer == OPTIMIZER_SGD ? 0 : SLOT_BIT(SLOT_SECOND)) |
           (info->average ? SLOT_BIT(SLOT_AVERAGE) : 0);
}

static uint32_t crc_of(uint32_t crc, const void *data, size_t n)
{
    return (uint32_t)crc32_z(crc, data, n);
}

/* ---- saving ---- */

struct writer {
    FILE *f;
    uint32_t crc;
    float *room;
};

static enum mag_status put(struct writer *w, const void *data, size_t n)
{
    w->crc = crc_of(w->crc, data, n);
    return fwrite(data, 1, n, w->f) == n ? MAG_OK : MAG_IO;
}

static enum mag_status write_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct writer *w = ctx;
    net->ops->get(a->op, a->lane, a->p, a->slot, w->room);
    return put(w, w->room, a->n * sizeof(float));
}

static char *head_text(const struct checkpoint_info *info, size_t floats)
{
    struct buf b = {0};
    buf_addf(&b, "{%s%s%s%s\"floats\":", info->average ? "\"average\":true," : "",
             info->description != NULL ? "\"description\":" : "",
             info->description != NULL ? info->description : "",
             info->description != NULL ? "," : "");
    buf_add_int(&b, (int64_t)floats);
    buf_adds(&b, ",\"model\":");
    buf_add_json_string(&b, info->signature);
    if (info->plateau.begun) {
        buf_addf(&b, ",\"plateau\":{\"bad\":%d,\"best\":%.17g,\"cooling\":%d,\"rate\":%.17g}",
                 info->plateau.bad, info->plateau.best, info->plateau.cooling, info->plateau.rate);
    }
    buf_addf(&b, ",\"optimizer\":\"%s\",\"step\":%lld,\"updates\":%lld}",
             optimizer_names[info->optimizer], (long long)info->step, (long long)info->updates);
    return buf_take(&b);
}

static enum mag_status write_parts(struct writer *w, const struct checkpoint_info *info,
                                   struct net *net)
{
    unsigned slots = slots_of(info);
    size_t floats = net_array_floats(net, slots);
    char *head = head_text(info, floats);
    uint32_t numbers[2] = {CHECKPOINT_VERSION, (uint32_t)strlen(head)};
    enum mag_status st = put(w, magic, sizeof(magic));
    if (st == MAG_OK) {
        st = put(w, numbers, sizeof(numbers));
    }
    if (st == MAG_OK) {
        st = put(w, head, strlen(head));
    }
    uint32_t crc = w->crc;
    if (st == MAG_OK) {
        st = put(w, &crc, sizeof(crc));
    }
    w->crc = 0;
    w->room = xmalloc((floats + 1) * sizeof(float));
    if (st == MAG_OK) {
        st = net_each_array(net, info->lane, slots, write_array, w);
    }
    crc = w->crc;
    if (st == MAG_OK) {
        st = put(w, &crc, sizeof(crc));
    }
    free(w->room);
    free(head);
    return st;
}

static enum mag_status sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return MAG_IO;
    }
    int r = fsync(fd);
    int e = errno;
    (void)close(fd);
    errno = e;
    return r == 0 ? MAG_OK : MAG_IO;
}

static enum mag_status write_file(const char *path, const struct checkpoint_info *info,
                                  struct net *net)
{
    struct writer w = {.f = fopen(path, "wbe")};
    if (w.f == NULL) {
        return MAG_IO;
    }
    enum mag_status st = write_parts(&w, info, net);
    if (st == MAG_OK && (fflush(w.f) != 0 || fsync(fileno(w.f)) != 0)) {
        st = MAG_IO;
    }
    int e = errno;
    if (fclose(w.f) != 0 && st == MAG_OK) {
        return MAG_IO;
    }
    errno = e;
    return st;
}

/* Takes away a folder that holds at most a checkpoint file. */
static void remove_folder(const char *path)
{
    char *file = xasprintf("%s/%s", path, CHECKPOINT_FILE);
    (void)unlink(file);
    (void)rmdir(path);
    free(file);
}

enum mag_status checkpoint_save(const char *dir, const struct checkpoint_info *info,
                                struct net *net, char **ret_path, struct mag_err *err)
{
    char *final = xasprintf("%s/%lld", dir, (long long)info->step);
    char *beside = xasprintf("%s/.%lld.new", dir, (long long)info->step);
    char *file = xasprintf("%s/%s", beside, CHECKPOINT_FILE);
    enum mag_status st = MAG_IO;
    remove_folder(beside);
    errno = 0;
    if (mkdir(beside, 0755) != 0 || fault_hit("trainer.checkpoint")) {
        goto out;
    }
    st = write_file(file, info, net);
    if (st == MAG_OK) {
        st = sync_path(beside);
    }
    if (st == MAG_OK && rename(beside, final) != 0) {
        /* The same step again, after a crash: the older copy of the same content gives way. */
        remove_folder(final);
        st = rename(beside, final) == 0 ? MAG_OK : MAG_IO;
    }
    if (st == MAG_OK) {
        st = sync_path(dir);
    }
out:
    if (st != MAG_OK) {
        int e = errno;
        remove_folder(beside);
        st = mag_fail(err, st, "cannot write the checkpoint %s: %s", final,
                      e != 0 ? strerror(e) : "a fault was asked for");
        free(final);
    } else {
        *ret_path = final;
    }
    free(beside);
    free(file);
    return st;
}

/* ---- loading ---- */

struct loader {
    FILE *f;
    const char *path;
    uint32_t crc;
    float *room;
    struct mag_err *err;
};

static enum mag_status take(struct loader *l, void *to, size_t n)
{
    if (fread(to, 1, n, l->f) != n) {
        return mag_fail(l->err, MAG_CORRUPT, "%s: torn: it ends too early", l->path);
    }
    l->crc = crc_of(l->crc, to, n);
    return MAG_OK;
}

static enum mag_status take_crc(struct loader *l)
{
    uint32_t want = l->crc;
    uint32_t stored = 0;
    enum mag_status st = take(l, &stored, sizeof(stored));
    if (st == MAG_OK && stored != want) {
        return mag_fail(l->err, MAG_CORRUPT, "%s: damaged: its checksum does not match", l->path);
    }
    l->crc = 0;
    return st;
}

/* The head as text, malloc'ed, checked against its checksum. */
static enum mag_status take_head(struct loader *l, char **ret, size_t *ret_len)
{
    char start[8];
    uint32_t numbers[2];
    enum mag_status st = take(l, start, sizeof(start));
    if (st == MAG_OK && memcmp(start, magic, sizeof(magic)) != 0) {
        return mag_fail(l->err, MAG_CORRUPT, "%s: not a checkpoint of magpie-trainer", l->path);
    }
    if (st == MAG_OK) {
        st = take(l, numbers, sizeof(numbers));
    }
    if (st != MAG_OK) {
        return st;
    }
    if (numbers[0] != CHECKPOINT_VERSION) {
        return mag_fail(l->err, MAG_UNSUPPORTED, "%s: format version %u; this build reads %d",
                        l->path, numbers[0], CHECKPOINT_VERSION);
    }
    if (numbers[1] > CHECKPOINT_HEAD_MAX) {
        return mag_fail(l->err, MAG_CORRUPT, "%s: damaged: a head of %u bytes", l->path,
                        numbers[1]);
    }
    char *head = xcalloc(numbers[1] + 1u, 1);
    st = take(l, head, numbers[1]);
    if (st == MAG_OK) {
        st = take_crc(l);
    }
    if (st != MAG_OK) {
        free(head);
        return st;
    }
    *ret = head;
    *ret_len = numbers[1];
    return MAG_OK;
}

static struct plateau read_plateau(const json_t *o)
{
    return (struct plateau){.begun = json_is_object(o),
                            .best = json_number_value(json_object_get(o, "best")),
                            .bad = (int)json_integer_value(json_object_get(o, "bad")),
                            .cooling = (int)json_integer_value(json_object_get(o, "cooling")),
                            .rate = json_number_value(json_object_get(o, "rate"))};
}

static enum mag_status check_head(struct loader *l, const char *text, size_t len,
                                  struct checkpoint_info *info, const struct net *net)
{
    json_t *o = NULL;
    enum mag_status st = mjson_parse(text, len, &o, NULL);
    const char *model = json_string_value(json_object_get(o, "model"));
    const char *optimizer = json_string_value(json_object_get(o, "optimizer"));
    json_int_t step = json_integer_value(json_object_get(o, "step"));
    json_int_t updates = json_integer_value(json_object_get(o, "updates"));
    info->average = json_is_true(json_object_get(o, "average"));
    if (st != MAG_OK || model == NULL || optimizer == NULL || step < 0 || updates < 0) {
        st = mag_fail(l->err, MAG_CORRUPT, "%s: damaged: its head cannot be read", l->path);
    } else if (strcmp(model, info->signature) != 0) {
        st = mag_fail(l->err, MAG_CONFLICT, "%s: is of another model (%.150s), not of %.150s",
                      l->path, model, info->signature);
    } else if (strcmp(optimizer, optimizer_names[info->optimizer]) != 0) {
        st = mag_fail(l->err, MAG_CONFLICT, "%s: holds the state of %.20s, but the trial uses %s",
                      l->path, optimizer, optimizer_names[info->optimizer]);
    } else if (json_integer_value(json_object_get(o, "floats")) !=
               (json_int_t)net_array_floats(net, slots_of(info))) {
        st = mag_fail(l->err, MAG_CORRUPT, "%s: damaged: it says it holds another number of values",
                      l->path);
    } else {
        info->step = step;
        info->updates = updates;
        info->plateau = read_plateau(json_object_get(o, "plateau"));
    }
    json_decref(o);
    return st;
}

enum mag_status checkpoint_peek(const char *path, struct checkpoint_head *ret, struct mag_err *err)
{
    char *file = xasprintf("%s/%s", path, CHECKPOINT_FILE);
    struct loader l = {.path = file, .err = err, .f = fopen(file, "rbe")};
    char *text = NULL;
    size_t len = 0;
    json_t *o = NULL;
    enum mag_status st = MAG_OK;
    if (l.f == NULL) {
        st = mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO,
                      "cannot read the checkpoint %s: %s", file, strerror(errno));
        goto out;
    }
    st = take_head(&l, &text, &len);
    if (st == MAG_OK && mjson_parse(text, len, &o, NULL) != MAG_OK) {
        st = mag_fail(err, MAG_CORRUPT, "%s: damaged: its head cannot be read", file);
    }
    if (st == MAG_OK) {
        const char *optimizer = json_string_value(json_object_get(o, "optimizer"));
        int kind = 0;
        while (kind < OPTIMIZERS - 1 && optimizer != NULL &&
               strcmp(optimizer, optimizer_names[kind]) != 0) {
            kind++;
        }
        *ret =
            (struct checkpoint_head){.description = json_incref(json_object_get(o, "description")),
                                     .optimizer = (enum optimizer_kind)kind,
                                     .step = json_integer_value(json_object_get(o, "step"))};
    }
out:
    if (l.f != NULL) {
        (void)fclose(l.f);
    }
    json_decref(o);
    free(text);
    free(file);
    return st;
}

static enum mag_status read_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct loader *l = ctx;
    enum mag_status st = take(l, l->room, a->n * sizeof(float));
    bool average = a->slot == SLOT_AVERAGE;
    if (st == MAG_OK && (average ? net->average : net->learns || a->slot == SLOT_VALUE)) {
        net->ops->set(a->op, a->lane, a->p, a->slot, l->room);
    }
    if (st == MAG_OK && average && !net->learns) {
        net->ops->set(a->op, a->lane, a->p, SLOT_VALUE, l->room);
    } else if (st == MAG_OK && a->slot == SLOT_VALUE && net->average) {
        net->ops->set(a->op, a->lane, a->p, SLOT_AVERAGE, l->room);
    }
    return st;
}

enum mag_status checkpoint_load(const char *path, struct checkpoint_info *info, struct net *net,
                                struct mag_err *err)
{
    char *file = xasprintf("%s/%s", path, CHECKPOINT_FILE);
    struct loader l = {.path = file, .err = err, .f = fopen(file, "rbe")};
    char *head = NULL;
    size_t head_len = 0;
    enum mag_status st = MAG_OK;
    if (l.f == NULL) {
        st = mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO,
                      "cannot read the checkpoint %s: %s", file, strerror(errno));
        goto out;
    }
    l.room = xmalloc((net_array_floats(net, SLOT_BIT(SLOT_VALUE)) + 1) * sizeof(float));
    st = take_head(&l, &head, &head_len);
    if (st == MAG_OK) {
        st = check_head(&l, head, head_len, info, net);
    }
    if (st == MAG_OK) {
        st = net_each_array(net, info->lane, slots_of(info), read_array, &l);
    }
    if (st == MAG_OK) {
        st = take_crc(&l);
    }
    if (st == MAG_OK && fgetc(l.f) != EOF) {
        st = mag_fail(err, MAG_CORRUPT, "%s: damaged: bytes after its end", file);
    }
out:
    if (l.f != NULL) {
        (void)fclose(l.f);
    }
    free(l.room);
    free(head);
    free(file);
    return st;
}
