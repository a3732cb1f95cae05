/* SPDX-License-Identifier: MIT */
/* Tables of statements with the accesses and flags that each must have. */
#ifndef TIDEGATE_TESTS_SQLROW_H
#define TIDEGATE_TESTS_SQLROW_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/reason.h"
#include "inspect/sql/sql.h"

struct row {
	const char *sql;
	const char *accesses; /* "read t, write s.u": f() is a function, 'x' is another object */
	uint32_t flags;
};

static const char *const flag_names[] = {
	"ROWS",	   "STAR",    "CARRIES", "COPY_OUT",   "COPY_IN",	"PREPARE",
	"EXECUTE", "DECLARE", "FETCH",	 "DEALLOCATE", "USER_FUNCTION", "LITERALS",
	"MULTI",   "TX_BEGIN", "TX_END", "EMPTY",      "EXPLAIN",	"LEXER",
	"CODE",	   "CLOSE",
};

UNUSED static void flags_text(uint32_t flags, char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (flags >> i & 1)
			n += (size_t)snprintf(dst + n, cap - n, "%s%s", n ? " " : "",
					      flag_names[i]);
}

UNUSED static void accesses_text(const struct sql_info *info, struct buf *b)
{
	static const char *const before[] = {"", " ", " ", " '"}, *const after[] = {"", "", "()", "'"};

	buf_init(b, 64 * 1024);
	for (unsigned i = 0; i < info->naccess; i++) {
		const struct sql_access *a = &info->access[i];
		enum sql_effect_bit bit = (enum sql_effect_bit)__builtin_ctz(a->effect);

		assert_int_equal(buf_printf(b, "%s%s%s%.*s%s%.*s%s", i ? ", " : "",
					    sql_effect_name(bit), before[a->kind],
					    (int)a->schema.n, a->schema.p, a->schema.n ? "." : "",
					    (int)a->name.n, a->name.p, after[a->kind]),
				 0);
	}
	assert_int_equal(buf_append(b, "", 1), 0);
}

UNUSED static unsigned check_row(struct sql *s, const struct row *row)
{
	const struct sql_info *info = sql_classify(s, slice_str(row->sql), 0);
	uint32_t effects = 0;
	char flags[256], want[256];
	struct buf b;
	bool bad;

	accesses_text(info, &b);
	flags_text(info->flags, flags, sizeof(flags));
	flags_text(row->flags, want, sizeof(want));
	bad = strcmp((char *)buf_data(&b), row->accesses) != 0 || strcmp(flags, want) != 0;
	if (bad)
		print_error("%s\n  is   %s [%s] %.*s\n  want %s [%s]\n", row->sql,
			    (char *)buf_data(&b), flags, (int)info->error.n, info->error.p,
			    row->accesses, want);
	for (unsigned j = 0; j < info->naccess; j++)
		effects |= info->access[j].effect;
	assert_int_equal(effects, info->effects);
	buf_done(&b);
	sql_info_unref(info);
	return bad;
}

UNUSED static void check_rows(const struct row *rows, size_t n)
{
	struct sql *s;
	unsigned failed = 0;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < n; i++)
		failed += check_row(s, &rows[i]);
	sql_free(s);
	assert_int_equal(failed, 0);
}

enum {
	R = SQL_F_ROWS,
	ST = SQL_F_STAR,
	CA = SQL_F_CARRIES,
	UF = SQL_F_USER_FUNCTION,
	LI = SQL_F_LITERALS,
	CD = SQL_F_CODE,
	UNKNOWN = ST | CA | UF,
};

#endif
