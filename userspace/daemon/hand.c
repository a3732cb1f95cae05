/* SPDX-License-Identifier: MIT */
#include "daemon/hand.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

void hand_done(struct hand *h)
{
	free(h->fds);
	h->fds = NULL;
	h->nfds = 0;
}

void hand_fail(struct hand *h, const char *what)
{
	if (!h->why[0])
		(void)snprintf(h->why, sizeof(h->why), "%s", what);
}

/* ---------------------------------------------------------------- writing */

void hand_put(struct hand *h, json_t *o, const char *key, json_t *stolen)
{
	if (json_object_set_new(o, key, stolen))
		hand_fail(h, key);
}

void hand_put_u64(struct hand *h, json_t *o, const char *key, uint64_t v)
{
	hand_put(h, o, key, json_integer((json_int_t)v));
}

void hand_put_bool(struct hand *h, json_t *o, const char *key, bool v)
{
	hand_put(h, o, key, json_boolean(v));
}

/* Each byte is a character: JSON takes no others than UTF-8, and names come from peers. */
void hand_put_slice(struct hand *h, json_t *o, const char *key, struct slice s)
{
	char *text = malloc(2 * s.n + 1);
	size_t n = 0;

	if (!text) {
		hand_fail(h, key);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] & 0x80) {
			text[n++] = (char)(0xc0 | s.p[i] >> 6);
			text[n++] = (char)(0x80 | (s.p[i] & 0x3f));
		} else {
			text[n++] = (char)s.p[i];
		}
	}
	hand_put(h, o, key, json_stringn(text, n));
	explicit_bzero(text, n);
	free(text);
}

void hand_put_str(struct hand *h, json_t *o, const char *key, const char *s)
{
	if (s)
		hand_put_slice(h, o, key, slice_str(s));
}

void hand_put_fd(struct hand *h, json_t *o, const char *key, int fd)
{
	int *fds;

	if (fd < 0)
		return;
	fds = reallocarray(h->fds, h->nfds + 1, sizeof(*fds));
	if (!fds) {
		hand_fail(h, key);
		return;
	}
	h->fds = fds;
	h->fds[h->nfds++] = fd;
	hand_put(h, o, key, json_integer(fd));
}

void hand_keep_fds(const struct hand *h, bool keep)
{
	for (size_t i = 0; i < h->nfds; i++)
		(void)fcntl(h->fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC);
}

/* ---------------------------------------------------------------- reading */

bool hand_has(const json_t *o, const char *key)
{
	return json_object_get(o, key) != NULL;
}

uint64_t hand_u64(struct hand *h, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v))
		hand_fail(h, key);
	return (uint64_t)json_integer_value(v);
}

bool hand_bool(struct hand *h, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_boolean(v))
		hand_fail(h, key);
	return json_is_true(v);
}

/* Back to bytes, in place of a copy; NULL: left out, or a failure. */
static uint8_t *decode(struct hand *h, const json_t *o, const char *key, size_t *ret_n)
{
	const json_t *v = json_object_get(o, key);
	const uint8_t *s = (const uint8_t *)json_string_value(v);
	size_t len = json_string_length(v), n = 0;
	uint8_t *out;

	*ret_n = 0;
	if (!v)
		return NULL;
	out = s ? malloc(len + 1) : NULL;
	if (!out) {
		hand_fail(h, key);
		return NULL;
	}
	for (size_t i = 0; i < len; i++) {
		if (s[i] & 0x80 && i + 1 < len && (s[i] & 0xfc) == 0xc0) {
			out[n++] = (uint8_t)(s[i] << 6 | (s[i + 1] & 0x3f));
			i++;
		} else {
			out[n++] = s[i];
		}
	}
	out[n] = '\0';
	*ret_n = n;
	return out;
}

void hand_str(struct hand *h, const json_t *o, const char *key, char *dst, size_t cap)
{
	size_t n;
	uint8_t *s = decode(h, o, key, &n);

	dst[0] = '\0';
	if (n >= cap || (s && memchr(s, 0, n)))
		hand_fail(h, key);
	else if (s)
		memcpy(dst, s, n + 1);
	free(s);
}

char *hand_dup(struct hand *h, const json_t *o, const char *key)
{
	size_t n;
	uint8_t *s = decode(h, o, key, &n);

	if (s && memchr(s, 0, n))
		hand_fail(h, key);
	return (char *)s;
}

void hand_buf(struct hand *h, const json_t *o, const char *key, struct buf *ret)
{
	size_t n;
	uint8_t *s = decode(h, o, key, &n);

	if (n && buf_append(ret, s, n))
		hand_fail(h, key);
	free(s);
}

void hand_bytes(struct hand *h, const json_t *o, const char *key, void *dst, size_t n)
{
	size_t got;
	uint8_t *s = decode(h, o, key, &got);

	if (got != n)
		hand_fail(h, key);
	else if (n)
		memcpy(dst, s, n);
	if (s)
		explicit_bzero(s, got);
	free(s);
}

int hand_fd(struct hand *h, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	int fd = (int)json_integer_value(v);

	if (!v)
		return -1;
	if (!json_is_integer(v) || fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC)) {
		hand_fail(h, key);
		return -1;
	}
	return fd;
}

const json_t *hand_list(struct hand *h, const json_t *o, const char *key)
{
	static json_t *none;
	const json_t *v = json_object_get(o, key);

	if (json_is_array(v))
		return v;
	hand_fail(h, key);
	if (!none)
		none = json_array();
	return none;
}
