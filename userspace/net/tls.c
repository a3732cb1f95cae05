/* SPDX-License-Identifier: MIT */
#include "net/tls.h"

#include <errno.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/reason.h"
#include "base/text.h"

enum { RECORD = 16 << 10, WORDS = 400, NAMES_SHOWN = 160, EXPECTED = 128 };

enum state { ASKING, ANSWER, SHAKING, UP };

struct tls {
	SSL *ssl;
	struct tls_trust trust; /* with pins of its own: a configuration may end before the handshake */
	int fd;
	enum state state : 8;
	bool dead; /* OpenSSL will not speak any more */
	bool more, read_wants_write, write_wants_read, finished;
	bool finish_waits; /* our goodbye did not fit into the socket */
	bool answered, showed; /* the signature is there; it was made */
	uint16_t reason;
	uint16_t events;
	char *why; /* NULL: in the words of the reason */
	/* Until it is up. */
	int (*answer)(uint8_t byte);
	uint8_t ask[TLS_CLEAR_MAX], ask_n, ask_sent;
	char *expected; /* whose certificate it has to be, for words */
	const struct far_ask *to_sign; /* on the stack of the handshake, which stands still */
	int sign_error;
	struct slice sig; /* of the caller of tls_signed(), while the handshake takes it */
	/* Afterwards. */
	uint8_t hash[TLS_CERTIFICATE_HASH], binding[TLS_BINDING_MAX];
	uint8_t binding_n;
};

static void fail(struct tls *t, uint16_t reason, const char *fmt, ...) PRINTF(3, 4);

static void fail(struct tls *t, uint16_t reason, const char *fmt, ...)
{
	char text[WORDS], shown[WORDS];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)text_escape(slice_str(text), shown, sizeof(shown));
	t->reason = reason;
	t->dead = true;
	free(t->why);
	t->why = strdup(shown);
}

uint16_t tls_reason(const struct tls *t)
{
	return t->reason;
}

const char *tls_why(const struct tls *t)
{
	return t->why ? t->why : reason_what(t->reason);
}

/* ------------------------------------------------------- who the server is */

/* The names in the server's certificate, which is not to be trusted. */
static void names_of(X509 *x, char *dst, size_t cap)
{
	GENERAL_NAMES *all = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
	size_t n = 0;

	dst[0] = '\0';
	for (int i = 0; i < sk_GENERAL_NAME_num(all) && n < cap - 1; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);

		if (g->type != GEN_DNS)
			continue;
		n += (size_t)snprintf(dst + n, cap - n, "%s%.*s", n ? ", " : "",
				      ASN1_STRING_length(g->d.dNSName),
				      (const char *)ASN1_STRING_get0_data(g->d.dNSName));
		n = min_size(n, cap - 1);
	}
	GENERAL_NAMES_free(all);
}

static void not_trusted(struct tls *t, long result, X509 *x)
{
	char names[NAMES_SHOWN];

	if (result != X509_V_ERR_HOSTNAME_MISMATCH && result != X509_V_ERR_IP_ADDRESS_MISMATCH) {
		fail(t, TG_R_UPSTREAM_CERTIFICATE, "the target's certificate is not trusted: %s",
		     X509_verify_cert_error_string(result));
		return;
	}
	names_of(x, names, sizeof(names));
	fail(t, TG_R_UPSTREAM_CERTIFICATE,
	     "the target's certificate is somebody else's: it is for %s, and not for %s",
	     names[0] ? names : "another name", t->expected);
}

/* OpenSSL forgets the certificate that it does not like: what there is to say is said here. */
static int on_verify(int ok, X509_STORE_CTX *ctx)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());

	if (!ok)
		not_trusted(SSL_get_app_data(ssl), X509_STORE_CTX_get_error(ctx),
			    X509_STORE_CTX_get0_cert(ctx));
	return ok;
}

/* --------------------------------------------------------------- a new one */

/* Called from inside OpenSSL, on the stack of the handshake. */
static int sign(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct tls *t = ctx;

	t->to_sign = q;
	t->answered = false;
	while (!t->answered)
		if (!ASYNC_get_current_job() || ASYNC_pause_job() != 1)
			return -EINVAL;
	t->to_sign = NULL;
	if (t->sign_error || t->sig.n > FAR_SIG_MAX)
		return t->sign_error ? t->sign_error : -EMSGSIZE;
	memcpy(sig, t->sig.p, t->sig.n);
	*ret_n = t->sig.n;
	t->showed = true;
	return 0;
}

/* What the certificate has to name. */
static bool expect(struct tls *t, const struct tls_start *s)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);
	char text[EXPECTED] = "";
	size_t n = 0;
	bool told = false;

	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	for (const char *const *name = s->names; name && *name; name++) {
		if (X509_VERIFY_PARAM_add1_host(p, *name, 0) != 1)
			return false;
		if (!told && **name != '.') {
			told = true;
			if (SSL_set_tlsext_host_name(t->ssl, *name) != 1)
				return false;
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? " or " : "", *name);
		n = min_size(n, sizeof(text) - 1);
	}
	if (!s->names && X509_VERIFY_PARAM_set1_ip(p, s->ip, s->ip_n) != 1)
		return false;
	for (size_t i = 0; !s->names && i < s->ip_n; i++) {
		const char *dot = i && s->ip_n == 4 ? "." : i && i % 2 == 0 ? ":" : "";

		n += (size_t)snprintf(text + n, sizeof(text) - n, s->ip_n == 4 ? "%s%u" : "%s%02x", dot,
				      s->ip[i]);
	}
	t->expected = strdup(text);
	return t->expected != NULL;
}

static int use_chain(struct tls *t, struct slice chain)
{
	const uint8_t *at = chain.p, *end = chain.p + chain.n;
	EVP_PKEY *key = NULL;
	int rc = 0;

	while (!rc && at < end) {
		X509 *x = d2i_X509(NULL, &at, end - at);

		if (!x)
			rc = -EINVAL;
		else if (key)
			rc = SSL_add1_chain_cert(t->ssl, x) == 1 ? 0 : -ENOMEM;
		else if (!(key = far_key_new(x, sign, t)) || SSL_use_certificate(t->ssl, x) != 1 ||
			 SSL_use_PrivateKey(t->ssl, key) != 1)
			rc = -EINVAL;
		X509_free(x);
	}
	EVP_PKEY_free(key);
	(void)SSL_set_mode(t->ssl, SSL_MODE_ASYNC);
	return rc;
}

static bool keep_pins(struct tls *t, const struct tls_trust *from)
{
	size_t n = from->npins * sizeof(*from->pins);
	void *copy = n ? malloc(n) : NULL;

	if (n && !copy)
		return false;
	if (n)
		memcpy(copy, from->pins, n);
	t->trust.pins = copy;
	return true;
}

int tls_new(const struct tls_start *s, int fd, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof(*t));
	int rc = -ENOMEM;

	if (!t || s->ask.n > sizeof(t->ask)) {
		free(t);
		return t ? -EINVAL : -ENOMEM;
	}
	t->fd = fd;
	t->trust.npins = s->trust->npins;
	t->answer = s->answer;
	t->ask_n = (uint8_t)s->ask.n;
	if (s->ask.n)
		memcpy(t->ask, s->ask.p, s->ask.n);
	t->ssl = SSL_new(s->trust->ctx);
	if (t->ssl && SSL_set_app_data(t->ssl, t) == 1 && keep_pins(t, s->trust) && expect(t, s) && SSL_set_fd(t->ssl, fd) == 1) {
		SSL_set_connect_state(t->ssl);
		SSL_set_verify(t->ssl, SSL_VERIFY_PEER, on_verify);
		rc = s->chain.n ? use_chain(t, s->chain) : 0;
	}
	if (rc) {
		tls_free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	/* A job that stands still is not freed with its connection: it ends first. */
	if (t->to_sign) {
		tls_signed(t, -ECANCELED, slice_of("", 0));
		(void)SSL_do_handshake(t->ssl);
	} else if (t->state == UP && !t->dead && !t->finished) {
		(void)SSL_shutdown(t->ssl);
	}
	ERR_clear_error();
	SSL_free(t->ssl);
	free((void *)(uintptr_t)t->trust.pins);
	free(t->expected);
	free(t->why);
	free(t);
}

/* ------------------------------------------------------------- handshake */

static const char *openssl_words(void)
{
	unsigned long e = ERR_peek_last_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;

	return text ? text : "OpenSSL does not say why";
}

static bool is_cut_off(void)
{
	unsigned long e = ERR_peek_last_error();

	return ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
}

static enum tls_step shake_failed(struct tls *t, int error, int e)
{
	if (t->reason)
		return TLS_STEP_FAILED;
	if (t->sign_error)
		fail(t, TG_R_CREDENTIAL_MISSING, "the key of the client certificate cannot be used: %s",
		     strerror(-t->sign_error));
	else if (error == SSL_ERROR_SYSCALL && e)
		fail(t, TG_R_UPSTREAM_TLS, "TLS with the target failed: %s", strerror(e));
	else if (error == SSL_ERROR_SYSCALL || error == SSL_ERROR_ZERO_RETURN || is_cut_off())
		fail(t, TG_R_UPSTREAM_TLS,
		     "TLS with the target failed: it closed the connection in the handshake");
	else
		fail(t, TG_R_UPSTREAM_TLS, "TLS with the target failed: %s", openssl_words());
	return TLS_STEP_FAILED;
}

static enum tls_step shaken(struct tls *t)
{
	X509 *x = SSL_get0_peer_certificate(t->ssl);
	unsigned n = 0;

	/* OpenSSL has seen to it; this is what would be if it had not been told to. */
	if (!x || SSL_get_verify_result(t->ssl) != X509_V_OK) {
		not_trusted(t, SSL_get_verify_result(t->ssl), x);
		return TLS_STEP_FAILED;
	}
	if (X509_digest(x, EVP_sha256(), t->hash, &n) != 1 || !tls_trust_has_key(&t->trust, x)) {
		fail(t, TG_R_UPSTREAM_CERTIFICATE,
		     "the target's certificate is not trusted: its key is none that `pin` names");
		return TLS_STEP_FAILED;
	}
	t->binding_n = (uint8_t)tls_end_point(x, t->binding);
	(void)SSL_clear_mode(t->ssl, SSL_MODE_ASYNC);
	t->state = UP;
	t->more = SSL_has_pending(t->ssl); /* came with the end of the handshake */
	return TLS_STEP_UP;
}

static enum tls_step shake(struct tls *t)
{
	int rc, error, e;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(t->ssl);
	e = errno;
	if (rc == 1)
		return shaken(t);
	error = SSL_get_error(t->ssl, rc);
	switch (error) {
	case SSL_ERROR_WANT_READ:
		t->events = EPOLLIN;
		return TLS_STEP_WAIT;
	case SSL_ERROR_WANT_WRITE:
		t->events = EPOLLOUT;
		return TLS_STEP_WAIT;
	case SSL_ERROR_WANT_ASYNC:
		t->events = 0;
		return TLS_STEP_SIGN;
	default:
		return shake_failed(t, error, e);
	}
}

static enum tls_step ask_clear(struct tls *t)
{
	ssize_t n = 0;

	if (t->ask_sent < t->ask_n)
		n = send(t->fd, t->ask + t->ask_sent, (size_t)(t->ask_n - t->ask_sent),
			 MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		fail(t, TG_R_UPSTREAM_TLS, "the target could not be asked for TLS: %s", strerror(errno));
		return TLS_STEP_FAILED;
	}
	t->ask_sent += n > 0 ? (uint8_t)n : 0;
	t->events = t->ask_sent < t->ask_n ? EPOLLOUT : EPOLLIN;
	if (t->ask_sent == t->ask_n)
		t->state = t->ask_n ? ANSWER : SHAKING;
	return t->state == SHAKING ? shake(t) : TLS_STEP_WAIT;
}

/*
 * One byte and nothing behind it: who speaks on before TLS has begun, or puts words into the server's mouth,
 * would have them taken for what came through TLS (CVE-2021-23222).
 */
static enum tls_step hear_answer(struct tls *t)
{
	uint8_t byte[2];
	ssize_t n = recv(t->fd, byte, sizeof(byte), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return TLS_STEP_WAIT;
	if (n <= 0)
		fail(t, TG_R_UPSTREAM_TLS, "the target closed the connection when it was asked for TLS%s%s",
		     n ? ": " : "", n ? strerror(errno) : "");
	else if (t->answer(byte[0]) == 0)
		fail(t, TG_R_UPSTREAM_NO_TLS, "the target does not offer TLS");
	else if (t->answer(byte[0]) != 1)
		fail(t, TG_R_UPSTREAM_TLS, "the target did not answer whether it speaks TLS, but sent an "
					   "error, or something else");
	else if (n > 1)
		fail(t, TG_R_UPSTREAM_TLS, "the target, or somebody between, sent bytes in clear text "
					   "behind its answer that it speaks TLS");
	if (t->reason)
		return TLS_STEP_FAILED;
	t->state = SHAKING;
	return shake(t);
}

enum tls_step tls_step(struct tls *t)
{
	if (t->reason)
		return TLS_STEP_FAILED;
	switch (t->state) {
	case ASKING:
		return ask_clear(t);
	case ANSWER:
		return hear_answer(t);
	case SHAKING:
		return t->to_sign && !t->answered ? TLS_STEP_SIGN : shake(t);
	case UP:
		break;
	}
	return TLS_STEP_UP;
}

uint32_t tls_events(const struct tls *t)
{
	return t->state == ASKING && !t->events ? EPOLLOUT : t->events;
}

const struct far_ask *tls_to_sign(const struct tls *t)
{
	return t->answered ? NULL : t->to_sign;
}

/* The handshake takes it in the next step, which comes before @sig is gone. */
void tls_signed(struct tls *t, int err, struct slice sig)
{
	t->sign_error = err;
	t->sig = sig;
	t->answered = true;
}

/* ------------------------------------------------------------------ bytes */

/* What SSL_read() or SSL_write() said instead of a number. 0: later; or negative errno. */
static int trouble(struct tls *t, int rc, bool *wants_other, int other)
{
	int e = errno, error = SSL_get_error(t->ssl, rc);

	if (error == other) {
		*wants_other = true;
		return 0;
	}
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return 0;
	if (error != SSL_ERROR_SSL || is_cut_off()) {
		t->dead = true;
		return error == SSL_ERROR_SYSCALL && e ? -e : -ECONNRESET;
	}
	fail(t, TG_R_UPSTREAM_TLS, "TLS with the target broke: %s", openssl_words());
	return -ECONNRESET;
}

ssize_t tls_recv(struct tls *t, void *dst, size_t n)
{
	size_t got = 0, one;
	int rc;

	t->more = t->read_wants_write = false;
	if (t->dead)
		return -ECONNRESET;
	ERR_clear_error();
	while (got < n) {
		rc = SSL_read_ex(t->ssl, (uint8_t *)dst + got, n - got, &one);
		if (rc == 1) {
			got += one;
			/* What the socket still has is announced by it, without another call. */
			if (!SSL_has_pending(t->ssl))
				return (ssize_t)got;
			continue;
		}
		if (SSL_get_error(t->ssl, rc) == SSL_ERROR_ZERO_RETURN) {
			t->more = got > 0;
			return (ssize_t)got;
		}
		rc = trouble(t, rc, &t->read_wants_write, SSL_ERROR_WANT_WRITE);
		t->more = rc && got;
		return got ? (ssize_t)got : rc ? rc : -EAGAIN;
	}
	t->more = true;
	return (ssize_t)got;
}

bool tls_has_more(const struct tls *t)
{
	return t->more;
}

/* Bytes of @iov from @at on, as many as a record takes: many small ones become one. */
static size_t gather(const struct iovec *iov, size_t n, size_t at, uint8_t rec[RECORD])
{
	size_t have = 0;

	for (size_t i = 0; i < n && have < RECORD; i++) {
		size_t part = iov[i].iov_len;

		if (at >= part) {
			at -= part;
			continue;
		}
		part = min_size(part - at, RECORD - have);
		memcpy(rec + have, (const uint8_t *)iov[i].iov_base + at, part);
		have += part;
		at = 0;
	}
	return have;
}

ssize_t tls_send(struct tls *t, const struct iovec *iov, size_t n)
{
	uint8_t rec[RECORD];
	size_t sent = 0, one, want = 0;
	int rc;

	t->write_wants_read = false;
	if (t->dead)
		return -EPIPE;
	for (size_t i = 0; i < n; i++)
		want += iov[i].iov_len;
	ERR_clear_error();
	while (sent < want) {
		if (n == 1)
			rc = SSL_write_ex(t->ssl, (const uint8_t *)iov->iov_base + sent, want - sent, &one);
		else
			rc = SSL_write_ex(t->ssl, rec, gather(iov, n, sent, rec), &one);
		if (rc == 1) {
			sent += one;
			continue;
		}
		rc = trouble(t, rc, &t->write_wants_read, SSL_ERROR_WANT_READ);
		if (n > 1) /* it may have been a secret */
			OPENSSL_cleanse(rec, sizeof(rec));
		return rc ? -EPIPE : (ssize_t)sent;
	}
	if (n > 1)
		OPENSSL_cleanse(rec, min_size(want, sizeof(rec)));
	return (ssize_t)sent;
}

bool tls_finish(struct tls *t)
{
	int rc;

	if (t->dead || t->finished || t->state != UP)
		return true;
	ERR_clear_error();
	rc = SSL_shutdown(t->ssl);
	t->finish_waits = rc < 0 && SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_WRITE;
	t->finished = !t->finish_waits;
	return t->finished;
}

uint32_t tls_watch(const struct tls *t, uint32_t events)
{
	uint32_t real = events & ~(uint32_t)(EPOLLIN | EPOLLOUT);

	if (t->finish_waits)
		real |= EPOLLOUT;
	if (events & EPOLLIN)
		real |= t->read_wants_write ? EPOLLOUT : EPOLLIN;
	if (events & EPOLLOUT)
		real |= t->write_wants_read ? EPOLLIN : EPOLLOUT;
	return real;
}

uint32_t tls_means(const struct tls *t, uint32_t events)
{
	uint32_t meant = events;

	if (t->read_wants_write && events & EPOLLOUT)
		meant |= EPOLLIN;
	if (t->write_wants_read && events & EPOLLIN)
		meant |= EPOLLOUT;
	return meant;
}

const char *tls_version(const struct tls *t)
{
	return SSL_get_version(t->ssl);
}

const char *tls_cipher(const struct tls *t)
{
	return SSL_get_cipher_name(t->ssl);
}

const uint8_t *tls_certificate_hash(const struct tls *t)
{
	return t->hash;
}

struct slice tls_binding(const struct tls *t)
{
	return slice_of(t->binding, t->binding_n);
}

bool tls_showed_certificate(const struct tls *t)
{
	return t->showed;
}
