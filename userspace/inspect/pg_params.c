/* SPDX-License-Identifier: MIT */
/* The parameters of a Bind as an approver sees them: `$1 = 'x', $2 = NULL, $3 = \x0a0b`. */
#include "inspect/pg.h"

#include <stdlib.h>

#include "base/cursor.h"
#include "base/text.h"

/* A value takes eight times its bytes at most, and who began before PREVIEW_BYTES has room. */
enum { PREVIEW_BYTES = 1024, VALUE_BYTES = 64, PREVIEW_ROOM = 8 * VALUE_BYTES + 128 };

/* Quoted as SQL does: no value can look like the end of itself and the next one. */
static int put_text(struct buf *b, struct slice v)
{
	char text[4 * VALUE_BYTES + 1];
	size_t n = text_escape(slice_of(v.p, min_size(v.n, VALUE_BYTES)), text, sizeof(text));
	int rc = buf_append(b, "'", 1);

	for (size_t i = 0; i < n && !rc; i++) {
		if (text[i] == '\'')
			rc = buf_append(b, "'", 1);
		if (!rc)
			rc = buf_append(b, &text[i], 1);
	}
	return rc ? rc : buf_printf(b, "'%s", v.n > VALUE_BYTES ? "..." : "");
}

static int put_binary(struct buf *b, struct slice v)
{
	char hex[2 * VALUE_BYTES + 1];

	text_hex(v.p, min_size(v.n, VALUE_BYTES), hex);
	return buf_printf(b, "\\x%s%s", hex, v.n > VALUE_BYTES ? "..." : "");
}

/* One code for all, one for each, or none: all text. */
static bool is_binary(struct slice formats, uint16_t i)
{
	size_t at = formats.n == 2 ? 0 : (size_t)i * 2;

	return at + 2 <= formats.n && load_be16(formats.p + at) != 0;
}

char *pg_params_preview(struct slice params)
{
	struct cursor c = cur_of(params);
	struct slice formats = cur_take(&c, (size_t)cur_be16(&c) * 2);
	uint16_t n = cur_be16(&c);
	char *text = NULL;
	struct buf b;
	int rc = 0;

	buf_init(&b, PREVIEW_BYTES + PREVIEW_ROOM);
	for (uint16_t i = 0; i < n && !c.bad && !rc; i++) {
		uint32_t length = cur_be32(&c);

		if (b.n >= PREVIEW_BYTES) {
			rc = buf_printf(&b, ", and %u more that are not shown", n - i);
			break;
		}
		rc = buf_printf(&b, "%s$%u = ", i ? ", " : "", i + 1u);
		if (!rc && length == UINT32_MAX)
			rc = buf_printf(&b, "NULL");
		else if (!rc && is_binary(formats, i))
			rc = put_binary(&b, cur_take(&c, length));
		else if (!rc)
			rc = put_text(&b, cur_take(&c, length));
	}
	/* What does not fit is said to be there; the digest covers all of it. */
	if (b.n)
		text = strndup((const char *)buf_data(&b), b.n);
	buf_done(&b);
	return text;
}
