/* SPDX-License-Identifier: MIT */
/*
 * The inspector that looks into nothing, under a host as the daemon is one. Input: a byte that says how
 * the host answers, a byte that chooses the cuts, then records of a direction byte, a length byte and
 * bytes. Whatever the cuts: nothing passes before the answer, and behind it all does.
 */
#include "inspect/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct flow {
	struct insp_env env;
	struct arena arena;
	struct insp_out out[2];
	void *st;
	unsigned waits; /* questions that are answered later */
	bool deny, over;
	struct buf in[2], got[2];
};

static enum insp_verdict on_event(void *ctx, const struct event *ev, struct insp_answer *ret)
{
	struct flow *f = ctx;

	BUG_ON(ev->kind != EV_LOGIN || ev->seq != 1);
	if (f->waits) {
		f->waits--;
		return INSP_V_WAIT;
	}
	ret->reason = f->deny ? TG_R_NO_RULE : TG_R_NONE;
	return f->deny ? INSP_V_DENY : INSP_V_ALLOW;
}

static const struct insp_host host = {.event = on_event};

static void feed(struct flow *f, enum insp_dir dir, bool eof)
{
	enum insp_status status = INSP_WAIT;
	size_t used = 0;
	uint16_t why;

	while (status == INSP_WAIT && !f->over) {
		bool holding;

		insp_out_reset(&f->out[0]);
		insp_out_reset(&f->out[1]);
		status = inspector_tcp.feed(f->st, dir, buf_slice(&f->in[dir]), eof, &used, &why);
		holding = inspector_tcp.holding(f->st);
		BUG_ON(status == INSP_WAIT && (used || f->out[0].bytes || f->out[1].bytes || !holding));
		BUG_ON(f->out[0].bytes + f->out[1].bytes != used);
		for (int to = 0; to < 2; to++)
			for (uint32_t i = 0; i < f->out[to].nseg; i++)
				BUG_ON(buf_append(&f->got[to], insp_out_ptr(&f->out[to], i),
						  f->out[to].seg[i].n));
		buf_consume(&f->in[dir], used);
		f->over |= status == INSP_END || status == INSP_BAD;
		BUG_ON(f->over && (why == TG_R_NONE) != false);
	}
}

static void run(struct flow *f, const uint8_t *data, size_t size, uint32_t cut)
{
	struct slice in = slice_of(data + 2, size - 2);

	*f = (struct flow){.waits = data[0] & 3, .deny = data[0] & 4};
	arena_init(&f->arena, 65536);
	for (int i = 0; i < 2; i++) {
		insp_out_init(&f->out[i], 1 << 20);
		buf_init(&f->in[i], 1 << 20);
		buf_init(&f->got[i], 1 << 20);
		f->env.out[i] = &f->out[i];
	}
	f->env.host = &host;
	f->env.ctx = f;
	f->env.arena = &f->arena;
	f->st = arena_alloc(&f->arena, inspector_tcp.state_size);
	BUG_ON(!f->st || inspector_tcp.open(f->st, &f->env));
	feed(f, INSP_C2S, false);
	while (in.n > 2) {
		enum insp_dir dir = in.p[0] & 1 ? INSP_S2C : INSP_C2S;
		struct slice s = slice_of(in.p + 2, min_size(in.p[1], in.n - 2));

		in = slice_from(in, 2 + s.n);
		while (s.n) {
			size_t n = cut ? min_size(s.n, 1 + (cut >> 24) % 9) : s.n;

			cut = cut ? cut * 1664525u + 1013904223u : 0;
			BUG_ON(buf_append(&f->in[dir], s.p, n));
			feed(f, dir, false);
			s = slice_from(s, n);
		}
	}
	feed(f, INSP_C2S, true);
	feed(f, INSP_S2C, true);
	inspector_tcp.close(f->st);
}

static void finish(struct flow *f)
{
	for (int i = 0; i < 2; i++) {
		insp_out_done(&f->out[i]);
		buf_done(&f->in[i]);
		buf_done(&f->got[i]);
	}
	arena_done(&f->arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flow whole, cut;

	if (size < 2 || size > 1 << 16)
		return 0;
	run(&whole, data, size, 0);
	run(&cut, data, size, 1u + data[1]);
	for (int i = 0; i < 2; i++) {
		BUG_ON(!slice_eq(buf_slice(&whole.got[i]), buf_slice(&cut.got[i])));
		BUG_ON(whole.deny && whole.got[i].n);
		BUG_ON(!whole.over && whole.in[i].n);
	}
	finish(&whole);
	finish(&cut);
	return 0;
}
