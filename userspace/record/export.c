/* SPDX-License-Identifier: MIT */
#include "record/export.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "base/text.h"

/* The JSON value again, on one line and valid whatever the recording held. */
static int put_json(struct slice s, struct buf *out)
{
	json_t *value = json_loadb((const char *)s.p, s.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	int err = text ? buf_printf(out, ",\"data\":%s", text) : -EBADMSG;

	free(text);
	json_decref(value);
	return err;
}

static int put_bytes(struct slice s, struct buf *out)
{
	size_t room = (s.n + 2) / 3 * 4 + 1;
	uint8_t *dst;
	int err;

	if (s.n > TG_REC_JOINED_MAX)
		return -EMSGSIZE;
	err = buf_printf(out, ",\"bytes\":%zu,\"base64\":\"", s.n);
	if (err)
		return err;
	dst = buf_reserve(out, room);
	if (!dst)
		return -EMSGSIZE;
	buf_commit(out, (size_t)EVP_EncodeBlock(dst, s.p, (int)s.n));
	return buf_printf(out, "\"");
}

int export_jsonl(const struct reader_record *rec, uint64_t number, struct buf *out)
{
	struct slice json = reader_json(rec);
	size_t before = out->n;
	char when[32];
	int err;

	text_time(rec->wall_ns, when, sizeof(when));
	err = buf_printf(
		out, "{\"n\":%llu,\"frame\":%llu,\"time\":\"%s\",\"wall_ns\":%llu,\"type\":\"%s\"",
		(unsigned long long)number, (unsigned long long)rec->frame, when,
		(unsigned long long)rec->wall_ns, reader_type_name(rec->type));
	if (!err && rec->incomplete)
		err = buf_printf(out, ",\"incomplete\":true");
	if (!err)
		err = json.n ? put_json(json, out) : -EBADMSG;
	if (err == -EBADMSG)
		err = put_bytes(rec->payload, out);
	if (!err)
		err = buf_printf(out, "}\n");
	if (err)
		out->n = before;
	return err;
}
