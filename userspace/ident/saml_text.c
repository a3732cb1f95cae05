/* SPDX-License-Identifier: MIT */
/* What can be told of an assertion before it is XML. */
#include <errno.h>
#include <strings.h>

#include "base/text.h"
#include "ident/b64.h"
#include "ident/saml_impl.h"

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct slice trimmed(struct slice s)
{
	while (s.n && is_space(s.p[0]))
		s = slice_from(s, 1);
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

int saml_decode(struct slice token, struct buf *ret_xml)
{
	struct slice s = trimmed(token);
	uint8_t *dst;
	size_t n;
	int err;

	if (!s.n)
		return -EINVAL;
	if (s.p[0] == '<')
		return buf_append_slice(ret_xml, s);
	if (s.n / 4 * 3 > SAML_MAX)
		return -EMSGSIZE;
	dst = buf_reserve(ret_xml, s.n);
	if (!dst)
		return -ENOMEM;
	err = b64_url_decode(s, dst, s.n, &n);
	if (err)
		err = b64_decode(s, dst, s.n, &n);
	if (!err)
		buf_commit(ret_xml, n);
	return err;
}

/*
 * Well-formed XML has `<!` and `<?` nowhere but where they begin something that an assertion
 * has no use for: a comment is not signed, a DOCTYPE means what nobody signed.
 */
static const char *markup(struct slice rest)
{
	if (rest.n < 2 || rest.p[0] != '<')
		return NULL;
	if (rest.p[1] == '?')
		return "a processing instruction in the document";
	if (rest.p[1] != '!')
		return NULL;
	if (rest.n > 2 && rest.p[2] == '-')
		return "a comment in the document: it is not signed, and splits what is";
	return rest.n > 2 && rest.p[2] == '[' ? "a CDATA section in the document"
					      : "a DOCTYPE in the document";
}

static const char *check_bytes(struct slice s)
{
	for (size_t i = 0, n; i < s.n; i += n) {
		const char *why = markup(slice_from(s, i));

		if (why)
			return why;
		n = utf8_length(slice_from(s, i));
		if (!n)
			return "the document is no UTF-8";
		if ((s.p[i] < ' ' && !is_space(s.p[i])) || s.p[i] == 127)
			return "a control character in the document";
	}
	return NULL;
}

static bool has(struct slice s, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= s.n; i++)
		if (strncasecmp((const char *)s.p + i, word, n) == 0)
			return true;
	return false;
}

const char *saml_bytes(struct slice xml, struct slice *ret)
{
	const uint8_t *end;
	struct slice s = xml;
	const char *why;

	if (s.n > SAML_MAX)
		return "the document is larger than 64 KiB";
	if (s.n > 6 && memcmp(s.p, "<?xml ", 6) == 0) {
		end = memmem(s.p, s.n, "?>", 2);
		if (!end)
			return "no XML";
		s.n = (size_t)(end - s.p);
		if (has(s, "encoding") && !has(s, "utf-8"))
			return "the document is no UTF-8";
		s = slice_from(xml, s.n + 2);
	}
	why = check_bytes(s);
	if (!why)
		*ret = s;
	return why;
}

int saml_time(const char *text, uint64_t *ret_s)
{
	char whole[] = "0000-00-00T00:00:00Z";
	size_t n = text ? strlen(text) : 0, at = sizeof(whole) - 2;
	uint64_t ns;

	if (n < sizeof(whole) - 1 || n > sizeof(whole) + 10 || text[n - 1] != 'Z')
		return -EINVAL;
	if (text[at] == '.' ? strspn(text + at + 1, "0123456789") != n - at - 2 || n == at + 2
			    : n != at + 1)
		return -EINVAL;
	memcpy(whole, text, at);
	if (text_parse_time(slice_str(whole), &ns))
		return -EINVAL;
	*ret_s = ns / 1000000000;
	return 0;
}
