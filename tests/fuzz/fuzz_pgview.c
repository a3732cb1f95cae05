/* SPDX-License-Identifier: MIT */
/*
 * The decoder of `tidegate recording replay` over any bytes: what it shows does not
 * depend on how the stream was cut, and is fit for a terminal. The first byte says where
 * the cuts are.
 */
#include <errno.h>

#include "ctl/pgview.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 4 << 20 };

static int run(struct slice in, size_t piece, struct buf *out)
{
	struct pgview *v = pgview_new(5);
	int err = 0;

	BUG_ON(!v);
	while (in.n && !err) {
		size_t n = min_size(piece, in.n);

		err = pgview_feed(v, slice_of(in.p, n), out);
		in = slice_from(in, n);
	}
	if (!err)
		err = pgview_end(v, out);
	pgview_free(v);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_from(slice_of(data, size), 1);
	struct buf whole, cut;
	int a, b;

	if (!size)
		return 0;
	buf_init(&whole, OUT_MAX);
	buf_init(&cut, OUT_MAX);
	a = run(in, in.n, &whole);
	b = run(in, data[0] % 37 + 1, &cut);
	BUG_ON(a != b || (a && a != -EMSGSIZE));
	BUG_ON(!a && !slice_eq(buf_slice(&whole), buf_slice(&cut)));
	for (size_t i = 0; i < whole.n; i++)
		BUG_ON(buf_data(&whole)[i] < ' ' && buf_data(&whole)[i] != '\n');
	buf_done(&whole);
	buf_done(&cut);
	return 0;
}
