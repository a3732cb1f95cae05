/* SPDX-License-Identifier: MIT */
/*
 * A PostgreSQL session of any bytes. Input: a byte of settings (see below), a byte
 * that chooses the cuts, then records of a direction byte, a 16-bit length and bytes.
 * The session runs twice, the second time cut into pieces: events and
 * output must be the same. The server's side is fed message by message in both
 * runs, since a server cannot answer what has not reached it.
 */
#include "../unit/pg_rig.c"

enum {
	SET_MASKING = 1,
	SET_LOGIN = 2, /* a login comes before the input */
	SET_HIDE = 4,
	SET_NULL = 8,
	SET_SMALL = 16, /* limits that are reached soon */
	SET_RELEASE = 32,
	SET_OWN = 64, /* logins are the inspector's, behind SET_LOGIN */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct cuts {
	uint32_t state; /* 0: none */
	uint8_t head[5]; /* of the server's current message */
	size_t head_n, left;
};

static size_t next_cut(struct cuts *c, size_t n)
{
	if (!c->state)
		return n;
	c->state = c->state * 1664525u + 1013904223u;
	return min_size(n, 1 + (c->state >> 24) % 9);
}

static void feed_cut(struct rig *r, enum insp_dir dir, struct slice s, struct cuts *c)
{
	while (s.n) {
		size_t n = next_cut(c, s.n);

		rig_feed(r, dir, slice_of(s.p, n));
		s = slice_from(s, n);
	}
}

/* How much of @s belongs to the server's current message. */
static size_t message_part(struct cuts *c, struct slice s)
{
	size_t n = 0;

	while (c->head_n < sizeof(c->head) && n < s.n) {
		c->head[c->head_n++] = s.p[n++];
		if (c->head_n == sizeof(c->head)) {
			c->left = load_be32(c->head + 1);
			c->left = c->left < 4 ? 0 : c->left - 4;
		}
	}
	if (c->head_n == sizeof(c->head)) {
		size_t body = min_size(c->left, s.n - n);

		c->left -= body;
		n += body;
		if (c->left == 0)
			c->head_n = 0;
	}
	return n;
}

static void feed_record(struct rig *r, enum insp_dir dir, struct slice s, struct cuts *c)
{
	while (dir == INSP_S2C && s.n) {
		size_t n = message_part(c, s);

		feed_cut(r, dir, slice_of(s.p, n), c);
		s = slice_from(s, n);
	}
	feed_cut(r, dir, s, c);
}

static void run(struct rig *r, struct sql *sql, struct slice in, uint32_t cut)
{
	uint8_t set = in.p[0];
	struct cuts c = {.state = cut};
	struct buf b;

	rig_init(r, sql, set & SET_MASKING);
	r->hide_texts = set & SET_HIDE;
	r->how = set & SET_NULL ? MASK_NULL : MASK_REDACT;
	r->release = set & SET_RELEASE ? 1 : 0;
	if (set & SET_SMALL) {
		r->env.limits.value_bytes = 16;
		r->env.limits.row_bytes = 64;
		r->env.limits.message_bytes = 256;
	}
	r->login_as = set & SET_OWN ? "mapped" : NULL;
	if (set & SET_LOGIN) {
		buf_init(&b, 4096);
		msg_startup(&b, "agent", "shop");
		rig_feed(r, INSP_C2S, buf_slice(&b));
		buf_reset(&b);
		msg_login_ok(&b);
		if (!(set & SET_OWN))
			rig_feed(r, INSP_S2C, buf_slice(&b));
		buf_done(&b);
	}
	for (in = slice_from(in, 2); in.n > 3;) {
		size_t n = min_size(load_be16(in.p + 1), in.n - 3);

		feed_record(r, in.p[0] & 1 ? INSP_S2C : INSP_C2S, slice_of(in.p + 3, n), &c);
		in = slice_from(in, n + 3);
	}
	rig_close(r, INSP_C2S);
	rig_close(r, INSP_S2C);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sql *sql;
	struct rig whole, cut;

	if (size < 2 || size > 1 << 17)
		return 0;
	BUG_ON(!sql && sql_new(NULL, &sql));
	run(&whole, sql, slice_of(data, size), 0);
	run(&cut, sql, slice_of(data, size), 1u + data[1]);
	for (int i = 0; i < 2; i++) {
		BUG_ON(!slice_eq(buf_slice(&whole.got[i]), buf_slice(&cut.got[i])));
		BUG_ON(!slice_eq(buf_slice(&whole.lines[i]), buf_slice(&cut.lines[i])));
	}
	BUG_ON(whole.status != cut.status);
	rig_done(&whole);
	rig_done(&cut);
	return 0;
}
