/* SPDX-License-Identifier: MIT */
/* COPY TO STDOUT where the host knows the types of the columns. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "inspect/pg.h"

#define L(s)	  SLICE_LIT(s)
#define BIT(name) (1u << DETECT_BIT_##name)
#define HEAD	  "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
#define TAIL	  "\377\377"

/* One column: named `secret`, so masked, or `m`, so scanned. */
static const struct one {
	const char *text;
	uint32_t type, detectors;
	struct slice in, want;
} ones[] = {
	{"COPY t (secret) TO STDOUT (FORMAT binary)", PG_OID_TEXT, 0,
	 L(HEAD "\0\1\0\0\0\5abcde" TAIL), L(HEAD "\0\1\0\0\0\3***" TAIL)},
	{"COPY t (secret) TO STDOUT (FORMAT binary)", PG_OID_INT4, 0,
	 L(HEAD "\0\1\0\0\0\4\1\2\3\4" TAIL), L(HEAD "\0\1\0\0\0\4\0\0\0\0" TAIL)},
	{"COPY t (secret) TO STDOUT (FORMAT binary)", PG_OID_JSONB, 0,
	 L(HEAD "\0\1\0\0\0\3\1[]" TAIL), L(HEAD "\0\1\0\0\0\6\1\"***\"" TAIL)},
	{"COPY t (secret) TO STDOUT (FORMAT binary)", 20000, 0,
	 L(HEAD "\0\1\0\0\0\4\1\2\3\4" TAIL), L(HEAD "\0\1\377\377\377\377" TAIL)},
	{"COPY t (secret) TO STDOUT (FORMAT binary)", 0, 0,
	 L(HEAD "\0\1\0\0\0\4\1\2\3\4" TAIL), L(HEAD "\0\1\377\377\377\377" TAIL)},
	{"COPY t (secret) TO STDOUT (FORMAT binary)", PG_OID_INT4, 0,
	 L(HEAD "\0\1\377\377\377\377" TAIL), L(HEAD "\0\1\377\377\377\377" TAIL)},
	/* Scanned: in place, by the text of a number, by the bytes of bytea, as JSON. */
	{"COPY t (m) TO STDOUT (FORMAT binary)", PG_OID_TEXT, 0,
	 L(HEAD "\0\1\0\0\0\3a@b" TAIL), L(HEAD "\0\1\0\0\0\5<hit>" TAIL)},
	{"COPY t (m) TO STDOUT (FORMAT binary)", PG_OID_INT8, 0,
	 L(HEAD "\0\1\0\0\0\10\0\16\233\13\117\61\61\307" TAIL),
	 L(HEAD "\0\1\0\0\0\10\0\0\0\0\0\0\0\0" TAIL)},
	{"COPY t (m) TO STDOUT (FORMAT binary)", PG_OID_JSONB, 0,
	 L(HEAD "\0\1\0\0\0\17\1{\"a\":\"x@y.zz\"}" TAIL),
	 L(HEAD "\0\1\0\0\0\16\1{\"a\":\"<hit>\"}" TAIL)},
	{"COPY t (m) TO STDOUT (FORMAT binary)", PG_OID_DATE, BIT(DOB),
	 L(HEAD "\0\1\0\0\0\4\1\2\3\4" TAIL), L(HEAD "\0\1\0\0\0\4\0\0\0\0" TAIL)},
	{"COPY t (m) TO STDOUT", PG_OID_BYTEA, 0, L("\\\\x6140622e63\nx\n"), L("\\\\x\nx\n")},
	{"COPY t (m) TO STDOUT", PG_OID_BYTEA, 0, L("\\\\x6141\n\\N\n"), L("\\\\x6141\n\\N\n")},
	{"COPY t (m) TO STDOUT (FORMAT csv)", PG_OID_FLOAT8, 0, L("4.111111111111111e+15\n1\n"),
	 L("0\n1\n")},
	{"COPY t (m) TO STDOUT", PG_OID_TIMESTAMP, BIT(DOB),
	 L("1980-02-03 00:00:00\n1980-02-03 01:00:00\n"),
	 L("2000-01-01 00:00:00\n1980-02-03 01:00:00\n")},
	/* A mask in text form is text, whatever the type. */
	{"COPY t (secret) TO STDOUT", PG_OID_INT4, 0, L("12\n"), L("***\n")},
};

static void begin(struct rig *r, struct buf *b, const struct one *o)
{
	bool binary = strstr(o->text, "binary");

	buf_init(b, 1 << 20);
	rig_init(r, rig_sql, true);
	r->copy_types = &o->type;
	r->detectors = o->detectors;
	msg_startup(b, "agent", "shop");
	rig_send(r, INSP_C2S, b);
	msg_login_ok(b);
	rig_send(r, INSP_S2C, b);
	msg_str(b, 'Q', o->text);
	rig_send(r, INSP_C2S, b);
	msg_add(b, 'H', binary ? L("\1\0\1\0\1") : L("\0\0\1\0\0"));
	rig_send(r, INSP_S2C, b);
	buf_reset(&r->got[INSP_TO_CLIENT]);
}

/* The stream without its messages. */
static void expect_stream(const struct rig *r, const struct one *o, size_t index)
{
	struct slice s = buf_slice(&r->got[INSP_TO_CLIENT]);
	struct buf got;

	buf_init(&got, 4096);
	while (s.n >= 5 && s.p[0] == 'd') {
		size_t total = (size_t)load_be32(s.p + 1) + 1;

		assert_int_equal(buf_append(&got, s.p + 5, total - 5), 0);
		s = slice_from(s, total);
	}
	if (!slice_eq(buf_slice(&got), o->want)) {
		print_error("case %zu: %s of type %u\n", index, o->text, o->type);
		fail();
	}
	buf_done(&got);
}

static void test_types(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ones); i++)
		for (size_t cut = 0; cut < ones[i].in.n; cut++) {
			struct buf b;
			struct rig r;

			begin(&r, &b, &ones[i]);
			if (cut)
				msg_add(&b, 'd', slice_of(ones[i].in.p, cut));
			msg_add(&b, 'd', slice_from(ones[i].in, cut));
			msg_empty(&b, 'c');
			msg_str(&b, 'C', "COPY 1");
			msg_ready(&b, 'I');
			rig_send(&r, INSP_S2C, &b);
			assert_int_equal(r.status, INSP_MORE);
			expect_stream(&r, &ones[i], i);
			buf_done(&b);
			rig_done(&r);
		}
}

/*
 * The host hears when others can see what was defined: not before, and not of anything else. Until
 * then it is told so by a COPY's question.
 */
static void test_definitions(void **state)
{
	static const struct {
		const char *text, *tag;
		char status;
		uint32_t settled;
		bool tainted;
	} rows[] = {
		{"SET x.y = 1", "SET", 'I', 0, false},
		{"CREATE TABLE n (i int)", "CREATE TABLE", 'I', 1, false},
		{"COPY t TO STDOUT", "COPY 0", 'I', 0, false},
		{"BEGIN", "BEGIN", 'T', 0, false},
		{"COPY t TO STDOUT", "COPY 0", 'T', 0, false},
		{"CREATE TABLE n (i int)", "CREATE TABLE", 'T', 0, false},
		{"COPY t TO STDOUT", "COPY 0", 'T', 0, true},
		{"COMMIT", "COMMIT", 'I', 1, false},
		{"COPY t TO STDOUT", "COPY 0", 'I', 0, false},
		{"BEGIN", "BEGIN", 'T', 0, false},
		{"SELECT some_function()", "SELECT 1", 'T', 0, false},
		{"COPY t TO STDOUT", "COPY 0", 'T', 0, true},
		{"ROLLBACK", "ROLLBACK", 'I', 0, false},
	};
	struct buf b;
	struct rig r;

	(void)state;
	begin(&r, &b, &ones[0]);
	msg_empty(&b, 'c');
	msg_str(&b, 'C', "COPY 0");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool copy = strncmp(rows[i].tag, "COPY", 4) == 0;

		r.settled = 0;
		msg_str(&b, 'Q', rows[i].text);
		rig_send(&r, INSP_C2S, &b);
		if (copy) {
			msg_add(&b, 'H', L("\0\0\1\0\0"));
			msg_empty(&b, 'c');
		}
		msg_str(&b, 'C', rows[i].tag);
		msg_ready(&b, rows[i].status);
		rig_send(&r, INSP_S2C, &b);
		if (r.status != INSP_MORE || r.settled != rows[i].settled ||
		    (copy && r.tainted != rows[i].tainted)) {
			print_error("case %zu: settled %u, tainted %d\n", i, r.settled, r.tainted);
			fail();
		}
	}
	rig_done(&r);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_definitions),
	};

	return cmocka_run_group_tests_name("pg_copy", tests, rig_setup, rig_teardown);
}
