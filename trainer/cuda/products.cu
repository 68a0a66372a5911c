/* SPDX-License-Identifier: Apache-2.0
 *
 * A plain matrix product, for the shapes that cuBLASLt has no kernel for.
 */
#include "trainer/cuda/kernels.h"

KERNEL product(struct product p)
{
    EACH_ITEM(i, (int64_t)p.batches * p.m * p.n)
    {
        const int column = (int)(i % p.n);
        const int row = (int)(i / p.n % p.m);
        const int64_t batch = i / p.n / p.m;
        const int64_t a = batch * p.a_batch + row * p.a_row;
        const int64_t b = batch * p.b_batch + column * p.b_col;
        const int64_t d = batch * p.d_batch + row * p.d_row + column;
        float sum = p.bias ? p.bias[batch * p.n + column] : 0.0f;
        for (int k = 0; k < p.k; k++) {
            sum += tensor_at(p.a, a + k * p.a_col) * tensor_at(p.b, b + k * p.b_row);
        }
        sum = p.relu && sum < 0 ? 0.0f : sum;
        tensor_give(p.d, d, sum, p.add);
    }
}

KERNELS_BEGIN

void k_product(const struct product *p, void *stream)
{
    LAUNCH_EACH(product, (int64_t)p->batches * p->m * p->n, stream, *p);
}

KERNELS_END
