/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ablation.h"

#include "base/alloc.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum mag_status ablation_fetch(struct client *c, const char *key, json_t **ret, struct mag_err *err)
{
    char *path = client_experiment(c, key, "/ablation");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, ret, err);
    free(path);
    return st;
}

/* "+0.02", "-0.1": what is taken away from the base. */
static void add_delta(struct table *t, const json_t *delta)
{
    char number[32];
    bool up = json_is_number(delta) && json_number_value(delta) > 0;
    table_addf(t, "%s%s", up ? "+" : "", format_number(delta, number));
}

static void add_row(struct table *t, const json_t *row)
{
    char number[32];
    const char *name = format_string(row, "name");
    table_add(t, name[0] != '\0' ? name : "(everything)");
    table_add(t, format_string(row, "kind"));
    table_add(t, format_number(json_object_get(row, "value"), number));
    table_add(t, format_number(json_object_get(row, "deviation"), number));
    add_delta(t, json_object_get(row, "delta"));
    table_addf(t, "%" PRId64 "/%" PRId64, format_int(row, "completed"), format_int(row, "runs"));
    char *trials = mjson_dump(json_object_get(row, "trials"));
    trials[strlen(trials) - 1] = '\0';
    table_add(t, trials + 1);
    free(trials);
}

void ablation_print(const json_t *table, FILE *f)
{
    char *value = xasprintf(">%s", format_string(table, "metric"));
    const char *const heads[] = {"WITHOUT", "KIND", value, ">±", ">DELTA", ">RUNS", "TRIALS"};
    struct table t;
    size_t i = 0;
    const json_t *row = NULL;
    table_init(&t, heads, sizeof(heads) / sizeof(heads[0]));
    add_row(&t, json_object_get(table, "base"));
    json_array_foreach(json_object_get(table, "components"), i, row)
    {
        add_row(&t, row);
    }
    table_print(&t, f);
    table_fini(&t);
    free(value);
}
