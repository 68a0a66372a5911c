/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: the XML that S3 answers with, read by expat. Documents with a DTD are
 * refused, so there are no entities to expand.
 */
#ifndef MAG_STORAGE_S3_XML_H
#define MAG_STORAGE_S3_XML_H

#include "base/err.h"
#include "storage/pieces.h"

/* Everything that our calls look for; a document fills what it has. */
struct s3_doc {
    struct names keys;       /* Contents/Key */
    struct names prefixes;   /* CommonPrefixes/Prefix */
    struct names uploads;    /* Upload/Key, and at the same index: */
    struct names upload_ids; /* Upload/UploadId */
    struct names failed;     /* Error/Key of a DeleteResult */
    bool truncated;
    char *next;                   /* NextContinuationToken */
    char *next_key, *next_upload; /* NextKeyMarker, NextUploadIdMarker */
    char *upload_id;              /* of InitiateMultipartUploadResult */
    char *code, *message;         /* of an Error */
};

/* CORRUPT: not the XML of S3. `doc` must be zeroed; fini it in any case. */
enum mag_status s3_xml_parse(const char *text, size_t len, struct s3_doc *doc,
                             struct mag_err *err) MAG_MUSTCHECK;
void s3_doc_fini(struct s3_doc *doc);

#endif
