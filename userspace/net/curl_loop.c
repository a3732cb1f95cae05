/* SPDX-License-Identifier: MIT */
#include "net/curl_loop.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "net/url.h"

enum {
	CA_MAX = 4 << 20,
	CONNECTIONS_MAX = 8, /* at once */
	IDLE_AGE_S = 60,     /* a kept connection older than this is not used again */
	SLOW_BYTES = 50,     /* per second ... */
	SLOW_S = 3,	     /* ... for so long: given up */
	RETRY_AFTER_MAX_S = 600,
};

struct curl_loop {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;
	struct list transfers;
	struct buf ca; /* empty: the system's file */
	/* Who we are; none: nobody. */
	X509 *certs[HTTP_CHAIN_MAX];
	unsigned ncerts;
	far_sign_fn *sign;
	void *sign_ctx;
	int sign_error; /* of the last handshake */
	bool allow_http;
	bool dead, retired;
	unsigned busy;	  /* depth of calls that still need us */
	unsigned handles; /* libuv handles not closed yet */
};

/* One socket that curl wants watched. */
struct watch {
	uv_poll_t poll;
	struct curl_loop *l;
	curl_socket_t fd;
};

struct http_transfer {
	struct list in_loop;
	struct curl_loop *l;
	CURL *easy;
	struct curl_slist *headers;
	struct buf request, body;
	http_done_fn *done;
	void *ctx;
	const char *want; /* a header */
	bool http; /* plain: only a loopback address may be connected to */
	bool too_large;
	bool refused_address;
	unsigned sent;
	char error[CURL_ERROR_SIZE];
};

static void destroy(struct curl_loop *l)
{
	for (unsigned i = 0; i < l->ncerts; i++)
		X509_free(l->certs[i]);
	buf_done(&l->ca);
	free(l);
}

static void maybe_release(struct curl_loop *l)
{
	if (l->dead && !l->busy && !l->handles)
		destroy(l);
}

static void wipe_headers(struct curl_slist *h)
{
	for (; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));
}

static void transfer_free(struct http_transfer *t)
{
	list_del(&t->in_loop);
	if (t->easy) {
		(void)curl_multi_remove_handle(t->l->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	wipe_headers(t->headers);
	curl_slist_free_all(t->headers);
	buf_wipe(&t->request);
	buf_wipe(&t->body);
	free(t);
}

static enum http_error classify(const struct http_transfer *t, CURLcode code)
{
	if (t->too_large)
		return HTTP_TOO_LARGE;
	if (t->refused_address)
		return HTTP_NOT_ALLOWED;
	if (t->l->sign_error && code != CURLE_OK)
		return HTTP_UNSIGNED;
	/* With TLS 1.3 it is known only after the handshake. */
	if (t->l->ncerts && strstr(t->error, " alert ") &&
	    (code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_SSL_CONNECT_ERROR))
		return HTTP_UNPROVEN;
	switch (code) {
	case CURLE_OK:
		return HTTP_OK;
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_TIMEOUT;
	case CURLE_FILESIZE_EXCEEDED:
		return HTTP_TOO_LARGE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_UNTRUSTED;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return HTTP_NOT_ALLOWED;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2:
		return code == CURLE_RECV_ERROR ? HTTP_UNREACHABLE : HTTP_BROKEN;
	default:
		return HTTP_UNREACHABLE;
	}
}

static void finish(struct http_transfer *t, CURLcode code)
{
	struct http_response r = {
		.error = classify(t, code), .sent = t->sent, .type = "", .wanted = "", .detail = ""};
	struct curl_header *h;
	curl_off_t retry_after = 0;
	long status = 0;
	char *type = NULL;

	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
	(void)curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
	r.status = (int)status;
	if (type)
		r.type = type;
	if (t->want && curl_easy_header(t->easy, t->want, 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
	    h->amount == 1)
		r.wanted = h->value;
	if (retry_after > 0)
		r.retry_after_s = (uint32_t)(retry_after < RETRY_AFTER_MAX_S ? retry_after
									     : RETRY_AFTER_MAX_S);
	if (r.error == HTTP_OK)
		r.body = buf_slice(&t->body);
	else if (r.error == HTTP_TOO_LARGE)
		r.detail = "the answer is too large";
	else if (t->refused_address)
		r.detail = "plain http, and the address is not a loopback address";
	else if (r.error == HTTP_UNSIGNED)
		r.detail = strerror(-t->l->sign_error);
	else
		r.detail = t->error[0] ? t->error : curl_easy_strerror(code);
	t->l->sign_error = 0;
	t->done(t->ctx, &r);
}

/* Hands out what has ended. The callbacks may start, cancel, and free everything. */
static void reap(struct curl_loop *l)
{
	struct http_transfer *t;
	CURLcode code;
	CURLMsg *m;
	int left;

	l->busy++;
	while (!l->dead && (m = curl_multi_info_read(l->multi, &left))) {
		if (m->msg != CURLMSG_DONE)
			continue;
		code = m->data.result;
		t = NULL;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		/* Out of the list first: a callback that frees the loop must not free it too. */
		list_del(&t->in_loop);
		(void)curl_multi_remove_handle(l->multi, t->easy);
		finish(t, code);
		curl_easy_cleanup(t->easy);
		t->easy = NULL;
		transfer_free(t);
	}
	l->busy--;
	if (l->retired && !l->busy && list_empty(&l->transfers))
		curl_loop_free(l);
	if (l->dead && !l->busy && l->multi) {
		(void)curl_multi_cleanup(l->multi);
		l->multi = NULL;
	}
	maybe_release(l);
}

static void drive(struct curl_loop *l, curl_socket_t fd, int events)
{
	int running;

	l->busy++;
	(void)curl_multi_socket_action(l->multi, fd, events, &running);
	l->busy--;
	reap(l);
}

static void on_timer(uv_timer_t *timer)
{
	drive(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *w = container_of(poll, struct watch, poll);
	int flags = 0;

	if (status < 0)
		flags |= CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	drive(w->l, w->fd, flags);
}

static void on_handle_closed(struct curl_loop *l)
{
	l->handles--;
	maybe_release(l);
}

static void on_watch_closed(uv_handle_t *h)
{
	struct watch *w = container_of((uv_poll_t *)h, struct watch, poll);
	struct curl_loop *l = w->l;

	free(w);
	on_handle_closed(l);
}

static void on_timer_closed(uv_handle_t *h)
{
	on_handle_closed(h->data);
}

static int watch_new(struct curl_loop *l, curl_socket_t fd, struct watch **ret)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->l = l;
	w->fd = fd;
	if (uv_poll_init_socket(l->loop, &w->poll, fd) != 0) {
		free(w);
		return -EINVAL;
	}
	l->handles++;
	*ret = w;
	return 0;
}

/* curl says which of its sockets it waits for, and on what. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	struct curl_loop *l = ctx;
	struct watch *w = socket_ctx;
	int events = 0;

	if (what == CURL_POLL_REMOVE) {
		if (w) {
			(void)curl_multi_assign(l->multi, fd, NULL);
			(void)uv_poll_stop(&w->poll);
			uv_close((uv_handle_t *)&w->poll, on_watch_closed);
		}
		return 0;
	}
	if (!w) {
		if (watch_new(l, fd, &w) != 0)
			return -1;
		(void)curl_multi_assign(l->multi, fd, w);
	}
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

static int on_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
	struct curl_loop *l = ctx;

	if (l->dead)
		return 0;
	/* 0 means soon, not now: curl must not be entered from its own callback. */
	if (timeout_ms < 0)
		(void)uv_timer_stop(&l->timer);
	else
		(void)uv_timer_start(&l->timer, on_timer, (uint64_t)timeout_ms, 0);
	return 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
	struct http_transfer *t = ctx;

	if (buf_append(&t->body, p, size * n) == 0)
		return size * n;
	t->too_large = true;
	return 0; /* ends the transfer */
}

static bool is_loopback(const struct curl_sockaddr *a)
{
	if (a->family == AF_INET)
		return ntohl(((const struct sockaddr_in *)&a->addr)->sin_addr.s_addr) >> 24 == 127;
	return a->family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&a->addr)->sin6_addr);
}

static curl_socket_t on_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct http_transfer *t = ctx;

	if (t->http && !is_loopback(a)) {
		t->refused_address = true;
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
}

static int read_ca(const char *path, struct buf *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size == 0)
		err = -EINVAL;
	while (!err) {
		uint8_t *p = buf_reserve(ret, 16384);
		ssize_t n = p ? read(fd, p, 16384) : 0;

		if (!p)
			err = -EMSGSIZE;
		else if (n < 0)
			err = -errno;
		else if (n == 0)
			break;
		else
			buf_commit(ret, (size_t)n);
	}
	(void)close(fd);
	return err;
}

static struct curl_loop *make(uv_loop_t *loop, bool allow_http)
{
	struct curl_loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->loop = loop;
	l->allow_http = allow_http;
	list_init(&l->transfers);
	buf_init(&l->ca, CA_MAX);
	return l;
}

/* Takes @l over, which is complete or has failed. */
static int begin(struct curl_loop *l, int err, struct curl_loop **ret)
{
	if (!err && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		err = -ENOMEM;
	if (!err)
		l->multi = curl_multi_init();
	if (err || !l->multi || uv_timer_init(l->loop, &l->timer) != 0) {
		if (l->multi)
			(void)curl_multi_cleanup(l->multi);
		destroy(l);
		return err ? err : -ENOMEM;
	}
	l->timer.data = l;
	l->handles = 1;
	(void)curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	(void)curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	(void)curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	(void)curl_multi_setopt(l->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)CONNECTIONS_MAX);
	(void)curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_MAX / 2);
	*ret = l;
	return 0;
}

int curl_loop_new(uv_loop_t *loop, const char *ca_file, bool allow_http, struct curl_loop **ret)
{
	struct curl_loop *l = make(loop, allow_http);

	return l ? begin(l, ca_file ? read_ca(ca_file, &l->ca) : 0, ret) : -ENOMEM;
}

/* ------------------------------------------------------- client certificate */

/* The loop outlives its connections, and with them all that may still want to be signed. */
static int sign(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct curl_loop *l = ctx;
	int err = l->sign(l->sign_ctx, q, sig, ret_n);

	if (err)
		l->sign_error = err;
	return err;
}

static CURLcode on_ssl_ctx(CURL *easy, void *ssl_ctx, void *ctx)
{
	struct curl_loop *l = ctx;
	EVP_PKEY *key = far_key_new(l->certs[0], sign, l);
	bool ok = key && SSL_CTX_use_certificate(ssl_ctx, l->certs[0]) == 1 &&
		  SSL_CTX_use_PrivateKey(ssl_ctx, key) == 1;

	for (unsigned i = 1; ok && i < l->ncerts; i++)
		ok = SSL_CTX_add1_chain_cert(ssl_ctx, l->certs[i]) == 1;
	EVP_PKEY_free(key);
	return ok ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static int take_chain(struct curl_loop *l, struct slice chain)
{
	const uint8_t *p = chain.p, *end = chain.p + chain.n;

	while (p < end && l->ncerts < HTTP_CHAIN_MAX) {
		X509 *x = d2i_X509(NULL, &p, (long)(end - p));

		if (!x)
			return -EINVAL;
		l->certs[l->ncerts++] = x;
	}
	return l->ncerts && p == end ? 0 : -EINVAL;
}

int curl_loop_new_as(const struct curl_loop *like, const struct http_identity *who,
		     struct curl_loop **ret)
{
	const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;
	struct curl_loop *l;
	int err;

	if (!tls || strncmp(tls, "OpenSSL/", 8) != 0)
		return -EOPNOTSUPP;
	l = make(like->loop, like->allow_http);
	if (!l)
		return -ENOMEM;
	l->sign = who->sign;
	l->sign_ctx = who->ctx;
	err = like->ca.n ? buf_append_slice(&l->ca, buf_slice(&like->ca)) : 0;
	return begin(l, err ? err : take_chain(l, who->chain), ret);
}

void curl_loop_retire(struct curl_loop *l)
{
	if (!l || l->dead)
		return;
	l->retired = true;
	if (list_empty(&l->transfers) && !l->busy)
		curl_loop_free(l);
}

void curl_loop_free(struct curl_loop *l)
{
	if (!l || l->dead)
		return;
	list_each(it, &l->transfers) transfer_free(container_of(it, struct http_transfer, in_loop));
	l->dead = true;
	uv_close((uv_handle_t *)&l->timer, on_timer_closed);
	if (!l->busy) {
		(void)curl_multi_cleanup(l->multi);
		l->multi = NULL;
	}
}

/* There is a connection, and the request goes out on it now. */
static int on_request(void *ctx, char *peer, char *own, int peer_port, int own_port)
{
	struct http_transfer *t = ctx;

	t->sent++;
	return CURL_PREREQFUNC_OK;
}

/* True if every option was taken: a curl without one of them must not be used without it. */
static bool set_policy(struct http_transfer *t)
{
	CURL *e = t->easy;
	bool ok = true;

#define SET(option, value) (ok &= curl_easy_setopt(e, CURLOPT_##option, value) == CURLE_OK)
	SET(PROTOCOLS_STR, t->http ? "http" : "https");
	SET(FOLLOWLOCATION, 0L);
	SET(PROXY, "");
	SET(NOPROXY, "*");
	SET(NETRC, (long)CURL_NETRC_IGNORED);
	SET(DISALLOW_USERNAME_IN_URL, 1L);
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(HTTP09_ALLOWED, 0L);
	SET(NOSIGNAL, 1L);
	/* A resolver thread that hangs is left behind instead of being waited for. */
	SET(QUICK_EXIT, 1L);
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(SSL_VERIFYPEER, 1L);
	SET(SSL_VERIFYHOST, 2L);
	SET(MAXAGE_CONN, (long)IDLE_AGE_S);
	SET(LOW_SPEED_LIMIT, (long)SLOW_BYTES);
	SET(LOW_SPEED_TIME, (long)SLOW_S);
	SET(USERAGENT, "tidegate/" TIDEGATE_VERSION);
	SET(OPENSOCKETFUNCTION, on_open);
	SET(OPENSOCKETDATA, t);
	SET(PREREQFUNCTION, on_request);
	SET(PREREQDATA, t);
	if (t->l->ncerts) {
		SET(SSL_CTX_FUNCTION, on_ssl_ctx);
		SET(SSL_CTX_DATA, t->l);
	}
	if (t->l->ca.n) {
		struct curl_blob ca = {
			.data = buf_data(&t->l->ca), .len = t->l->ca.n, .flags = CURL_BLOB_NOCOPY};

		SET(CAINFO_BLOB, &ca);
		SET(CAPATH, NULL);
	}
	return ok;
}

static bool set_request(struct http_transfer *t, const struct http_request *q)
{
	CURL *e = t->easy;
	bool ok = true;

	for (const char *const *h = q->headers; h && *h; h++) {
		struct curl_slist *more = curl_slist_append(t->headers, *h);

		ok &= more != NULL;
		t->headers = more ? more : t->headers;
	}
	SET(URL, q->url);
	SET(HTTPHEADER, t->headers);
	SET(TIMEOUT_MS, (long)q->timeout_ms);
	SET(CONNECTTIMEOUT_MS, (long)q->timeout_ms);
	SET(MAXFILESIZE_LARGE, (curl_off_t)q->max_bytes);
	SET(WRITEFUNCTION, on_body);
	SET(WRITEDATA, t);
	SET(ERRORBUFFER, t->error);
	SET(PRIVATE, t);
	if (q->body) {
		ok &= buf_append_slice(&t->request, *q->body) == 0;
		SET(POST, 1L);
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)t->request.n);
		SET(POSTFIELDS, t->request.n ? (const char *)buf_data(&t->request) : "");
	}
#undef SET
	return ok;
}

int curl_loop_start(struct curl_loop *l, const struct http_request *q, http_done_fn *done,
		    void *ctx, struct http_transfer **ret)
{
	struct http_transfer *t;
	struct url_facts url;

	if (url_inspect(q->url, &url) != 0)
		return -EINVAL;
	if (!url.https && !(l->allow_http && url.loopback))
		return -EPERM;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	list_init(&t->in_loop);
	t->l = l;
	t->done = done;
	t->ctx = ctx;
	t->want = q->want;
	t->http = !url.https;
	buf_init(&t->body, q->max_bytes);
	buf_init(&t->request, q->body ? q->body->n : 0);
	t->easy = curl_easy_init();
	if (!t->easy || !set_policy(t) || !set_request(t, q) ||
	    curl_multi_add_handle(l->multi, t->easy) != CURLM_OK) {
		transfer_free(t);
		return -ENOMEM;
	}
	list_add_tail(&l->transfers, &t->in_loop);
	*ret = t;
	return 0;
}

void curl_loop_cancel(struct http_transfer *t)
{
	struct curl_loop *l = t->l;

	transfer_free(t);
	if (l->retired && !l->busy && list_empty(&l->transfers))
		curl_loop_free(l);
}
