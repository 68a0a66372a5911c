/* SPDX-License-Identifier: Apache-2.0
 *
 * A folder in memory for the files of mpirun and its ranks, which nobody removes once they are
 * killed: segments of shared memory, sockets. Whoever started them removes it, or, was that killed
 * too, the next one that makes such a folder on this host.
 */
#ifndef MAG_TRAINER_RANKS_FOLDER_H
#define MAG_TRAINER_RANKS_FOLDER_H

/* malloc'ed path, or NULL where none can be made: they use their own places then. */
char *ranks_folder_make(void);
/* With all in it; takes the path, NULL allowed. */
void ranks_folder_remove(char *folder);

#endif
