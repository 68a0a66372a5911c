/* SPDX-License-Identifier: Apache-2.0
 *
 * The shape of a cloud of points: which directions it is long in. A weighted covariance, shrunk
 * towards a ball by as much as there are too few points to know it, as a lower triangle L of unit
 * volume (det L = 1): x = centre + width * L z with z standard normal has the cloud's shape.
 */
#ifndef MAG_OPTIMIZERS_SHAPE_H
#define MAG_OPTIMIZERS_SHAPE_H

/* `points`: n rows of d; `weights`: n, positive; `l`: d * d, row by row, zero above the diagonal.
 */
void shape_of(const double *points, const double *weights, int n, int d, double *l);

#endif
