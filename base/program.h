/* SPDX-License-Identifier: Apache-2.0
 *
 * Where this program and its companions lie: in a build folder and installed alike.
 */
#ifndef MAG_BASE_PROGRAM_H
#define MAG_BASE_PROGRAM_H

/* The running program's own file, malloc'ed; NULL when /proc does not tell. */
char *program_self(void);

/* The file of a companion program such as "magpie-trainer", malloc'ed: $MAGPIE_LIBEXEC/NAME, else
 * beside this program, in the build folder's trainer/ or worker/, or in ../libexec/magpie/; NULL = not found.
 */
char *program_find(const char *name);

#endif
