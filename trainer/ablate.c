/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/ablate.h"

#include "base/alloc.h"
#include "trainer/format.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *text_of(const json_t *params, const char *key)
{
    return json_string_value(json_object_get(params, key));
}

bool ablate_layer(const json_t *params, const json_t *layer)
{
    const char *left = text_of(params, "ablated_layer");
    const char *name = json_string_value(json_object_get(layer, "name"));
    while (left != NULL && name != NULL && *left != '\0') {
        size_t n = strcspn(left, ",");
        bool prefix = n > 1 && left[n - 1] == '*';
        bool hit = prefix ? strncasecmp(left, name, n - 1) == 0
                          : strlen(name) == n && strncmp(left, name, n) == 0;
        if (hit) {
            return true;
        }
        left += n + (left[n] == ',');
    }
    return false;
}

bool ablate_feature(const json_t *params, const char *pointer, struct dataset_source *s,
                    struct mjson_issues *is)
{
    const char *name = text_of(params, "ablated_feature");
    if (name == NULL) {
        return true;
    }
    if (!s->format->columns || (s->label != NULL && strcmp(s->label, name) == 0)) {
        mjson_issue_at(is, pointer, "dataset", "the feature \"%.100s\" cannot be left out: %s", name,
                       !s->format->columns ? "only columns with names can"
                                                : "it is the label");
        return false;
    }
    s->ignore = xreallocarray(s->ignore, (size_t)s->n_ignore + 1, sizeof(*s->ignore));
    s->ignore[s->n_ignore++] = xstrdup(name);
    return true;
}
