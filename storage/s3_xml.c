/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/s3_xml.h"

#include "base/alloc.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define NAME_MAX_BYTES 64
#define TEXT_MAX 4096 /* bytes of one value */

struct reader {
    XML_Parser parser;
    struct s3_doc *doc;
    int depth;
    char path[DEPTH_MAX][NAME_MAX_BYTES];
    struct buf text; /* of the innermost element */
    struct mag_err *err;
    enum mag_status status;
};

static void stop(struct reader *r, enum mag_status st, const char *why)
{
    if (r->status == MAG_OK) {
        r->status = mag_fail(r->err, st, "the server's XML: %s", why);
        (void)XML_StopParser(r->parser, XML_FALSE);
    }
}

static void on_doctype(void *arg, const char *name, const char *sysid, const char *pubid,
                       int internal)
{
    (void)name;
    (void)sysid;
    (void)pubid;
    (void)internal;
    stop(arg, MAG_CORRUPT, "it has a DTD");
}

static void on_start(void *arg, const char *name, const char **attributes)
{
    struct reader *r = arg;
    (void)attributes;
    if (r->status != MAG_OK) {
        return;
    }
    if (r->depth >= DEPTH_MAX) {
        stop(r, MAG_CORRUPT, "it is nested too deep");
        return;
    }
    (void)snprintf(r->path[r->depth++], NAME_MAX_BYTES, "%s", name);
    buf_reset(&r->text);
}

static void on_text(void *arg, const char *bytes, int n)
{
    struct reader *r = arg;
    if (r->text.len + (size_t)n > TEXT_MAX) {
        stop(r, MAG_CORRUPT, "a value is too long");
        return;
    }
    buf_add(&r->text, bytes, (size_t)n);
}

static void set(char **at, const char *text)
{
    free(*at);
    *at = xstrdup(text);
}

/* The end of `parent`/`name` with `text` between. */
static enum mag_status take(struct reader *r, const char *parent, const char *name,
                            const char *text)
{
    struct s3_doc *d = r->doc;
    struct {
        const char *parent, *name;
        struct names *list;
        char **value;
    } const table[] = {
        {"Contents", "Key", &d->keys, NULL},
        {"CommonPrefixes", "Prefix", &d->prefixes, NULL},
        {"Upload", "Key", &d->uploads, NULL},
        {"Upload", "UploadId", &d->upload_ids, NULL},
        {"ListBucketResult", "NextContinuationToken", NULL, &d->next},
        {"ListMultipartUploadsResult", "NextKeyMarker", NULL, &d->next_key},
        {"ListMultipartUploadsResult", "NextUploadIdMarker", NULL, &d->next_upload},
        {"InitiateMultipartUploadResult", "UploadId", NULL, &d->upload_id},
        {"Error", "Key", &d->failed, NULL},
        {"Error", "Code", NULL, &d->code},
        {"Error", "Message", NULL, &d->message},
    };
    if (strcmp(name, "IsTruncated") == 0) {
        d->truncated = strcmp(text, "true") == 0;
        return MAG_OK;
    }
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(parent, table[i].parent) == 0 && strcmp(name, table[i].name) == 0) {
            if (table[i].list != NULL) {
                return names_add_whole(table[i].list, text, r->err);
            }
            set(table[i].value, text);
        }
    }
    return MAG_OK;
}

static void on_end(void *arg, const char *name)
{
    struct reader *r = arg;
    (void)name;
    if (r->status != MAG_OK || r->depth == 0) {
        return;
    }
    r->depth--;
    const char *parent = r->depth > 0 ? r->path[r->depth - 1] : "";
    r->status = take(r, parent, r->path[r->depth], r->text.data != NULL ? r->text.data : "");
    if (r->status != MAG_OK) {
        (void)XML_StopParser(r->parser, XML_FALSE);
    }
    buf_reset(&r->text);
}

enum mag_status s3_xml_parse(const char *text, size_t len, struct s3_doc *doc, struct mag_err *err)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    r->doc = doc;
    r->err = err;
    r->parser = XML_ParserCreate(NULL);
    MAG_ASSERT(r->parser != NULL, "expat");
    XML_SetUserData(r->parser, r);
    XML_SetElementHandler(r->parser, on_start, on_end);
    XML_SetCharacterDataHandler(r->parser, on_text);
    XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
    bool sound =
        len <= WEB_REPLY_MAX && XML_Parse(r->parser, text, (int)len, XML_TRUE) == XML_STATUS_OK;
    enum mag_status st = r->status;
    if (st == MAG_OK && !sound) {
        st = mag_fail(err, MAG_CORRUPT, "the server's XML: %s",
                      XML_ErrorString(XML_GetErrorCode(r->parser)));
    }
    if (st == MAG_OK && doc->uploads.n != doc->upload_ids.n) {
        st = mag_fail(err, MAG_CORRUPT, "the server's XML: an upload without key or id");
    }
    XML_ParserFree(r->parser);
    buf_fini(&r->text);
    free(r);
    return st;
}

void s3_doc_fini(struct s3_doc *doc)
{
    names_fini(&doc->keys);
    names_fini(&doc->prefixes);
    names_fini(&doc->uploads);
    names_fini(&doc->upload_ids);
    names_fini(&doc->failed);
    free(doc->next);
    free(doc->next_key);
    free(doc->next_upload);
    free(doc->upload_id);
    free(doc->code);
    free(doc->message);
    *doc = (struct s3_doc){0};
}
