/* SPDX-License-Identifier: MIT */
#include "config_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/buf.h"
#include "guard.h"

int config_text(const char *text, size_t n, struct config **ret, char *said, size_t cap)
{
	struct buf error;
	void *handle;
	uint8_t *p = guard_copy(slice_of(text, n), &handle);
	int rc;

	buf_init(&error, cap - 1);
	rc = config_parse(slice_of(p, n), "t.yaml", ret, &error);
	if (error.n)
		memcpy(said, buf_data(&error), error.n);
	said[error.n] = '\0';
	buf_done(&error);
	guard_free(handle);
	return rc;
}

struct config *config_good(const char *text)
{
	struct config *c = NULL;
	char said[8192];
	int rc = config_text(text, strlen(text), &c, said, sizeof(said));

	if (rc)
		print_error("%s\n%s", text, said);
	assert_int_equal(rc, 0);
	assert_string_equal(said, "");
	assert_non_null(c);
	return c;
}

static void say_whole(const struct config_bad *b, char *dst, size_t cap)
{
	size_t n = 0;

	for (const char *line = b->said; *line;) {
		size_t len = strcspn(line, "\n");

		n += (size_t)snprintf(dst + n, cap - n, "t.yaml:%.*s\n", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

void config_bad(const struct config_bad *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct config *c = (void *)1;
		char said[8192], want[8192];

		say_whole(&rows[i], want, sizeof(want));
		if (config_text(rows[i].text, strlen(rows[i].text), &c, said, sizeof(said)) != -EINVAL ||
		    strcmp(said, want) != 0)
			print_error("row %zu: %s", i, rows[i].text);
		assert_string_equal(said, want);
		/* Nothing is written on failure. */
		assert_ptr_equal(c, (void *)1);
	}
}
