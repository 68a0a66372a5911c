/* SPDX-License-Identifier: Apache-2.0
 *
 * What storage servers answer: whatever the bytes, the readers of S3's XML and of the listings of
 * Swift and WebHDFS end with names or with a reason. The first byte chooses the reader.
 */
#include "base/alloc.h"
#include "storage/hdfs.h"
#include "storage/s3_xml.h"
#include "storage/swift.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static bool count(void *arg, const char *name)
{
    MAG_ASSERT(name[0] != '\0' && name[0] != '.', "a name that nobody may see");
    ++*(int *)arg;
    return true;
}

static void xml(const char *text, size_t len)
{
    struct s3_doc doc = {0};
    struct mag_err err = {0};
    enum mag_status st = s3_xml_parse(text, len, &doc, &err);
    MAG_ASSERT((st == MAG_OK) == (err.text[0] == '\0'), "%s", err.text);
    MAG_ASSERT(st != MAG_OK || doc.uploads.n == doc.upload_ids.n, "uploads without ids");
    s3_doc_fini(&doc);
}

static void json(const char *text, size_t len, bool swift)
{
    struct names names = {0};
    struct names shown = {0};
    struct mag_err err = {0};
    char *last = NULL;
    bool more = false;
    int n = 0;
    enum mag_status st = swift ? swift_parse_page(text, len, &names, &last, &err)
                               : hdfs_parse_page(text, len, &names, &last, &more, &err);
    MAG_ASSERT((st == MAG_OK) == (err.text[0] == '\0'), "%s", err.text);
    MAG_ASSERT(!more || last != NULL, "more after nothing");
    for (size_t i = 0; i < names.n; i++) {
        MAG_ASSERT(names_add(&shown, names.items[i], NULL) == MAG_OK, "names");
    }
    names_visit(&shown, count, &n);
    names_fini(&names);
    names_fini(&shown);
    free(last);
}

static void ini(const char *text)
{
    free(settings_ini(text, "default", "aws_access_key_id"));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    char *text = xstrndup((const char *)data + 1, size - 1);
    switch (data[0]) {
    case 'x':
        xml((const char *)data + 1, size - 1);
        break;
    case 's':
    case 'h':
        json((const char *)data + 1, size - 1, data[0] == 's');
        break;
    default:
        ini(text);
    }
    free(text);
    return 0;
}
