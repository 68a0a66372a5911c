/* SPDX-License-Identifier: Apache-2.0
 *
 * Eigenvalues and eigenvectors of a symmetric matrix.
 */
#ifndef MAG_OPTIMIZERS_EIGEN_H
#define MAG_OPTIMIZERS_EIGEN_H

#include <stdbool.h>

/* `a` (n rows of n; the lower triangle counts) becomes the eigenvectors, one a column, orthonormal;
 * `values` the eigenvalues, rising. `work` holds n doubles. The signs of the vectors are fixed by
 * the matrix. False when the iteration does not end (the matrix holds NaN or infinities); then `a`
 * is of no use. */
bool eigen_symmetric(int n, double *a, double *values, double *work);

#endif
