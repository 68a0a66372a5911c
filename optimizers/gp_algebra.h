/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense linear algebra of the Gaussian process: Cholesky factors of some hundred rows and solves
 * with them. Matrices are row-major with `ld` doubles a row; a lower triangle's upper part is
 * neither read nor kept. One thread, and every element is summed in one stated order whatever the
 * processor's vectors are, so that results are the same bits on every x86-64 processor and `magpie`
 * links no numerical library (those start threads and load for milliseconds in each process).
 */
#ifndef MAG_OPTIMIZERS_GP_ALGEBRA_H
#define MAG_OPTIMIZERS_GP_ALGEBRA_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* C (m x n) -= A (m x k) B (k x n). */
void alg_subtract_product(double *c, size_t ldc, const double *a, size_t lda, const double *b,
                          size_t ldb, int m, int n, int k);
/* The lower triangle of symmetric A becomes L with L L' = A. False, and A is spoilt, when A is not
 * positive definite in floating point. */
bool alg_cholesky(double *a, size_t ld, int n) MAG_MUSTCHECK;
/* B (n x m) becomes L^-1 B. */
void alg_forward_many(const double *l, size_t ld, int n, double *b, size_t ldb, int m);
/* b becomes L^-1 b; b becomes L'^-1 b. */
void alg_forward(const double *l, size_t ld, int n, double *b);
void alg_backward(const double *l, size_t ld, int n, double *b);
/* The lower triangle of (L L')^-1 into `inverse`, which may be l; `work` holds 2 * n * ld
 * doubles. */
void alg_inverse(const double *l, size_t ld, int n, double *inverse, double *work);
/* L of n rows grows by the row of a new point: `k` (spoilt) holds its covariances with the n old
 * ones, `kk` its own. False when it adds nothing (its pivot is not above `least`). */
bool alg_append(double *l, size_t ld, int n, double *k, double kk, double least) MAG_MUSTCHECK;
double alg_dot(const double *a, const double *b, int n);

#endif
