/* SPDX-License-Identifier: Apache-2.0
 *
 * The checksum that HDFS keeps of a file, computed from what we send, so that what arrived can be
 * compared without reading it back. Of a file of one block it is MD5 over 32 bytes: the MD5 of the
 * block's CRCs (CRC-32C of each 512 bytes, big-endian) and 16 zeros, which the format has there.
 */
#include "storage/hdfs.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 512
#define POLYNOMIAL 0x82f63b78U /* Castagnoli's, reflected */
#define ALGORITHM "MD5-of-0MD5-of-512CRC32C"
#define HEAD_HEX 24 /* digits of bytes per CRC and CRCs per block, before the MD5 */

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1) != 0 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        }
        table[0][i] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int i = 0; i < 256; i++) {
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
        }
    }
}

static uint32_t word(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Eight bytes at a time, by eight tables. */
static uint32_t crc32c(uint32_t crc, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t a = crc ^ word(p);
        uint32_t b = word(p + 4);
        crc = table[7][a & 0xff] ^ table[6][a >> 8 & 0xff] ^ table[5][a >> 16 & 0xff] ^
              table[4][a >> 24] ^ table[3][b & 0xff] ^ table[2][b >> 8 & 0xff] ^
              table[1][b >> 16 & 0xff] ^ table[0][b >> 24];
    }
    for (; n > 0; n--, p++) {
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
    }
    return crc;
}

static void end_chunk(struct hdfs_sum *s)
{
    uint32_t crc = ~s->crc;
    const unsigned char raw[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                  (unsigned char)(crc >> 8), (unsigned char)crc};
    (void)EVP_DigestUpdate(s->block, raw, sizeof(raw));
    s->crc = UINT32_MAX;
    s->fill = 0;
}

void hdfs_sum_begin(struct hdfs_sum *s)
{
    (void)pthread_once(&table_once, fill_table);
    if (s->block == NULL) {
        s->block = EVP_MD_CTX_new();
    }
    MAG_ASSERT(s->block != NULL && EVP_DigestInit_ex(s->block, EVP_md5(), NULL) == 1, "no MD5");
    s->crc = UINT32_MAX;
    s->fill = 0;
}

void hdfs_sum_add(void *sum, const char *bytes, size_t n)
{
    struct hdfs_sum *s = sum;
    while (n > 0) {
        size_t take = CHUNK - s->fill < n ? CHUNK - s->fill : n;
        s->crc = crc32c(s->crc, (const unsigned char *)bytes, take);
        s->fill += take;
        bytes += take;
        n -= take;
        if (s->fill == CHUNK) {
            end_chunk(s);
        }
    }
}

void hdfs_sum_end(struct hdfs_sum *s, char hex[PIECE_MD5_HEX])
{
    unsigned char block[32] = {0};
    unsigned char file[EVP_MAX_MD_SIZE];
    if (s->fill > 0) {
        end_chunk(s);
    }
    (void)EVP_DigestFinal_ex(s->block, block, NULL);
    int ok = EVP_Digest(block, sizeof(block), file, NULL, EVP_md5(), NULL);
    MAG_ASSERT(ok == 1, "no MD5");
    for (int i = 0; i < 16; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", file[i]);
    }
}

void hdfs_sum_fini(struct hdfs_sum *s)
{
    EVP_MD_CTX_free(s->block);
}

enum mag_status hdfs_compare(struct hdfs *h, const char *file, const char *sum, struct mag_err *err)
{
    json_t *doc = NULL;
    char *path = hdfs_path(file, "GETFILECHECKSUM");
    const struct web_call call = WEB_CALL(.method = "GET", .path = path, .follow = true);
    enum mag_status st = hdfs_ask(h, &call, &doc, err);
    const json_t *there = json_object_get(doc, "FileChecksum");
    const char *algorithm = json_string_value(json_object_get(there, "algorithm"));
    const char *hex = json_string_value(json_object_get(there, "bytes"));
    if (st == MAG_OK && algorithm != NULL && strcmp(algorithm, ALGORITHM) == 0 && hex != NULL &&
        (strlen(hex) < HEAD_HEX + 32 || strncmp(hex + HEAD_HEX, sum, 32) != 0)) {
        st = mag_fail(err, MAG_CORRUPT, "%s is not what was sent (HDFS's checksum differs)", file);
    }
    json_decref(doc);
    free(path);
    return st;
}
