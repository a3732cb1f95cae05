/* SPDX-License-Identifier: MIT */
/*
 * Metrics in Prometheus' text format over HTTP/1.0, on a unix socket and, if configured,
 * on a loopback port. Every request gets the same answer; what it says is not read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/adminsock.h"
#include "daemon/hand.h"
#include "daemon/integrity.h"
#include "daemon/listeners.h"
#include "daemon/parent.h"
#include "daemon/recheck.h"
#include "daemon/upgrade.h"
#include "kern/kern.h"
#include "tidegate_ctl.h"

enum {
	REQUEST_MAX = 4096,
	REQUEST_MS = 5000,
	ANSWER_ROOM = 256 << 10,
	/* At once, of each listener: agents may reach the one on loopback, and are not to take
	 * all descriptors of the parent. */
	SCRAPERS_MAX = 32,
};

static uv_poll_t unix_poll, *tcp_poll;

void parent_reasons(const struct parent *p, uint64_t ret[TG_R_COUNT])
{
	for (unsigned r = 0; r < TG_R_COUNT; r++) {
		ret[r] = p->reason[r] + (p->named.stats ? p->named.stats->reason[r] : 0);
		for (uint32_t i = 0; i < p->nworkers; i++)
			ret[r] += p->workers[i].stats->reason[r];
	}
}

struct sum {
	const char *name, *help, *type;
	size_t offset; /* in struct worker_stats, a uint64_t */
};

static const struct sum sums[] = {
#define S(field, name, type, help) {name, help, type, offsetof(struct worker_stats, field)}
	S(accepted, "tidegate_connections_total", "counter", "connections accepted"),
	S(sessions, "tidegate_sessions", "gauge", "sessions that are open"),
	S(sessions_ended, "tidegate_sessions_ended_total", "counter", "sessions that are over"),
	S(commands, "tidegate_commands_total", "counter", "commands completed"),
	S(held, "tidegate_held_total", "counter", "connections and statements that waited"),
	S(masked_values, "tidegate_masked_values_total", "counter", "values masked by column"),
	S(detector_hits, "tidegate_detector_hits_total", "counter", "values masked by detector"),
	S(catalog_loads, "tidegate_catalog_loads_total", "counter", "catalog snapshots loaded"),
	S(glitches, "tidegate_glitches_total", "counter", "odd but tolerated messages"),
	S(sql_hits, "tidegate_sql_cache_hits_total", "counter", "statements of a known shape"),
	S(sql_misses, "tidegate_sql_cache_misses_total", "counter", "statements that were parsed"),
	S(journal.records, "tidegate_records_total", "counter", "records written"),
	S(journal.bytes, "tidegate_recorded_bytes_total", "counter", "bytes of records"),
	S(journal.stored_bytes, "tidegate_stored_bytes_total", "counter", "bytes of frames"),
	S(journal.frames, "tidegate_frames_total", "counter", "frames written"),
	S(syncs, "tidegate_syncs_total", "counter", "syncs that commands waited for"),
	S(journal.failed, "tidegate_recordings_failed_total", "counter", "recordings lost"),
#undef S
};

static void put_sums(const struct parent *p, struct buf *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(sums); i++) {
		uint64_t total = 0;

		for (uint32_t w = 0; w < p->nworkers; w++) {
			uint64_t v;

			memcpy(&v, (const char *)p->workers[w].stats + sums[i].offset, sizeof(v));
			total += v;
		}
		(void)!buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", sums[i].name,
				  sums[i].help, sums[i].name, sums[i].type, sums[i].name, total);
	}
}

static void put_reasons(const struct parent *p, struct buf *b)
{
	uint64_t n[TG_R_COUNT];

	parent_reasons(p, n);
	(void)!buf_printf(b, "# HELP tidegate_reason_total why something was refused, ended or "
			     "replaced\n# TYPE tidegate_reason_total counter\n");
	for (unsigned r = 1; r < TG_R_COUNT; r++)
		(void)!buf_printf(b, "tidegate_reason_total{reason=\"%s\"} %" PRIu64 "\n",
				  reason_label((uint16_t)r), n[r]);
}

static void put_kernel(const struct parent *p, struct buf *b)
{
	static const char *const labels[] = {
#define X(name, label, what) [TG_K_##name] = label,
		TG_KERNEL_COUNTERS(X)
#undef X
	};
	uint64_t n[TG_K_COUNT];

	if (!p->kern || kern_counters(p->kern, n))
		return;
	(void)!buf_printf(b, "# HELP tidegate_kernel_total what the kernel side did\n# TYPE "
			     "tidegate_kernel_total counter\n");
	for (unsigned i = 0; i < TG_K_COUNT; i++)
		(void)!buf_printf(b, "tidegate_kernel_total{what=\"%s\"} %" PRIu64 "\n", labels[i],
				  n[i]);
}

static void put_integrity(const struct parent *p, struct buf *b)
{
	const uint64_t *n = integrity_counts(p);

	(void)!buf_printf(b, "# HELP tidegate_audit_lost_total events that are not in the audit log\n"
			     "# TYPE tidegate_audit_lost_total counter\n"
			     "tidegate_audit_lost_total %" PRIu64 "\n", p->audit_lost);
	if (!n)
		return;
	(void)!buf_printf(b, "# HELP tidegate_kernel_changes_total changes of the kernel side by "
			     "others\n# TYPE tidegate_kernel_changes_total counter\n");
	for (int i = 0; i < KERN_FAULT_COUNT; i++)
		(void)!buf_printf(b, "tidegate_kernel_changes_total{what=\"%s\"} %" PRIu64 "\n",
				  kern_fault_label((enum kern_fault)i), n[i]);
}

static void put_rechecks(struct buf *b)
{
	const struct recheck_counts *n = recheck_counts();

	(void)!buf_printf(b, "# HELP tidegate_rechecks_total questions whether a grant still holds\n# TYPE "
			     "tidegate_rechecks_total counter\n"
			     "tidegate_rechecks_total{answer=\"active\"} %" PRIu64 "\n"
			     "tidegate_rechecks_total{answer=\"ended\"} %" PRIu64 "\n"
			     "tidegate_rechecks_total{answer=\"failed\"} %" PRIu64 "\n"
			     "# HELP tidegate_rechecks_unkept_total grants that were not given, as their token "
			     "could not be kept\n# TYPE tidegate_rechecks_unkept_total counter\n"
			     "tidegate_rechecks_unkept_total %" PRIu64 "\n",
			  n->active, n->ended, n->failed, n->unkept);
}

/* Names are those of the configuration, which need no escaping; "unknown" is neither up nor down. */
static void put_service(struct buf *b, const char *kind, const char *name, const json_t *o)
{
	const char *state = json_string_value(json_object_get(o, "state"));
	const json_t *age = json_object_get(o, "keys_age_ms");

	if (!name || !state)
		return;
	if (strcmp(state, "unknown") != 0)
		(void)!buf_printf(b, "tidegate_service_up{kind=\"%s\",name=\"%s\"} %d\n", kind, name,
				  strcmp(state, "up") == 0);
	if (age)
		(void)!buf_printf(b, "tidegate_service_keys_age_seconds{kind=\"%s\",name=\"%s\"} %lld\n", kind,
				  name, (long long)json_integer_value(age) / 1000);
}

/* Whom authd asks: as of the last second. */
static void put_services(const struct parent *p, struct buf *b)
{
	json_t *idp = p->cfg->idp && p->idp_state ? json_loads(p->idp_state, 0, NULL) : NULL;
	json_t *ways = p->ways_state ? json_loads(p->ways_state, 0, NULL) : NULL;
	json_t *issuers = p->issuers_state ? json_loads(p->issuers_state, 0, NULL) : NULL, *o;
	size_t i;

	(void)!buf_printf(b, "# HELP tidegate_service_up whether who approves or issues tokens can be used\n"
			     "# TYPE tidegate_service_up gauge\n"
			     "# HELP tidegate_service_keys_age_seconds since its keys were fetched\n"
			     "# TYPE tidegate_service_keys_age_seconds gauge\n");
	put_service(b, "idp", "idp", idp);
	json_array_foreach(ways, i, o)
		put_service(b, "approval", json_string_value(json_object_get(o, "name")), o);
	json_array_foreach(issuers, i, o)
		put_service(b, "token",
			    json_string_value(json_array_get(json_object_get(o, "agents"), 0)), o);
	json_decref(idp);
	json_decref(ways);
	json_decref(issuers);
}

static void put_targets(const struct parent *p, struct buf *b)
{
	(void)!buf_printf(b, "# HELP tidegate_target_sessions sessions by target\n# TYPE "
			     "tidegate_target_sessions gauge\n");
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg)
			(void)!buf_printf(b, "tidegate_target_sessions{target=\"%s\",mode=\"%s\"} %u\n",
					  t->name, target_mode_name(t->mode), t->sessions);
	}
}

/* A scraper: its request is read to the blank line, whatever it says, then answered. */
struct scraper {
	struct parent *p;
	uv_poll_t poll;
	uv_timer_t timer;
	int fd;
	unsigned *nopen; /* of its listener */
	uint8_t nhandles;
	size_t n;
	char request[REQUEST_MAX];
};

static void scraper_closed(uv_handle_t *h)
{
	struct scraper *s = h->data;

	if (--s->nhandles)
		return;
	close(s->fd);
	--*s->nopen;
	free(s);
}

static void scraper_close(struct scraper *s)
{
	if (uv_is_closing((uv_handle_t *)&s->poll))
		return;
	s->poll.data = s->timer.data = s;
	uv_close((uv_handle_t *)&s->poll, scraper_closed);
	uv_close((uv_handle_t *)&s->timer, scraper_closed);
}

static void scraper_late(uv_timer_t *t)
{
	scraper_close(container_of(t, struct scraper, timer));
}

static void answer(struct scraper *s)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	(void)!buf_printf(&b, "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
			      "Connection: close\r\n\r\n");
	put_sums(s->p, &b);
	put_reasons(s->p, &b);
	put_kernel(s->p, &b);
	put_integrity(s->p, &b);
	put_targets(s->p, &b);
	put_rechecks(&b);
	put_services(s->p, &b);
	(void)!send(s->fd, buf_data(&b), b.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(s->fd, SHUT_WR);
	buf_done(&b);
}

static void on_scraper(uv_poll_t *h, int status, int events)
{
	struct scraper *s = container_of(h, struct scraper, poll);
	ssize_t n = recv(s->fd, s->request + s->n, sizeof(s->request) - s->n, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		s->n += (size_t)n;
		if (!memmem(s->request, s->n, "\r\n\r\n", 4) && s->n < sizeof(s->request))
			return;
		answer(s);
	}
	scraper_close(s);
}

static void on_metrics(uv_poll_t *h, int status, int events)
{
	struct parent *p = h->data;
	static unsigned nopen[2];
	bool tcp = h != &unix_poll;
	int listen_fd = tcp ? p->metrics_tcp : p->metrics_fd;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int size = ANSWER_ROOM;
	struct scraper *s;

	if (fd < 0)
		return;
	s = nopen[tcp] < SCRAPERS_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s || uv_poll_init(&p->loop, &s->poll, fd)) {
		free(s);
		close(fd);
		return;
	}
	/* The answer goes out in one piece. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	s->p = p;
	s->fd = fd;
	s->nopen = &nopen[tcp];
	++*s->nopen;
	s->nhandles = 2;
	(void)uv_timer_init(&p->loop, &s->timer);
	(void)uv_timer_start(&s->timer, scraper_late, REQUEST_MS, 0);
	(void)uv_poll_start(&s->poll, UV_READABLE, on_scraper);
}

static int watch(struct parent *p, uv_poll_t *h, int fd)
{
	int rc = uv_poll_init(&p->loop, h, fd);

	h->data = p;
	return rc ? rc : uv_poll_start(h, UV_READABLE, on_metrics);
}

/* Takes over @fd; -1: nobody listens. */
static int watch_tcp(struct parent *p, int fd)
{
	int rc = 0;

	p->metrics_tcp = fd;
	if (fd < 0)
		return 0;
	tcp_poll = malloc(sizeof(*tcp_poll));
	if (tcp_poll)
		rc = watch(p, tcp_poll, fd);
	return tcp_poll ? rc : -ENOMEM;
}

static void tcp_closed(uv_handle_t *h)
{
	free(h);
}

void metrics_use_tcp(struct parent *p, int fd)
{
	if (p->metrics_tcp >= 0) {
		uv_close((uv_handle_t *)tcp_poll, tcp_closed);
		close(p->metrics_tcp);
	}
	if (watch_tcp(p, fd))
		log_error("metrics: %s is not served", p->cfg->metrics_listen);
}

void metrics_use(struct parent *p, int fd)
{
	(void)uv_poll_stop(&unix_poll);
	(void)dup3(fd, p->metrics_fd, O_CLOEXEC);
	close(fd);
	(void)uv_poll_start(&unix_poll, UV_READABLE, on_metrics);
}

int metrics_start(struct parent *p)
{
	int rc;

	p->metrics_tcp = -1;
	p->metrics_fd = control_listen(p->cfg->run_dir, TG_CTL_METRICS, 0660, p->cfg->admin_group);
	if (p->metrics_fd < 0)
		return p->metrics_fd;
	rc = watch(p, &unix_poll, p->metrics_fd);
	if (rc || !p->cfg->metrics_listen)
		return rc;
	rc = listener_open(p->cfg->metrics_listen);
	if (rc < 0) {
		log_error("metrics: cannot listen on %s: %s", p->cfg->metrics_listen, strerror(-rc));
		return rc;
	}
	return watch_tcp(p, rc);
}

void metrics_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *o = json_object();

	hand_put_fd(h, o, "unix", p->metrics_fd);
	hand_put_fd(h, o, "tcp", p->metrics_tcp);
	hand_put(h, root, "metrics", o);
}

int metrics_take(struct parent *p, struct hand *h, const json_t *root)
{
	const json_t *o = json_object_get(root, "metrics");
	int rc;

	p->metrics_fd = hand_fd(h, o, "unix");
	if (p->metrics_fd < 0)
		return -EBADF;
	rc = watch(p, &unix_poll, p->metrics_fd);
	return rc ? rc : watch_tcp(p, hand_fd(h, o, "tcp"));
}
