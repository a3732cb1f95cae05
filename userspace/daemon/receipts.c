/* SPDX-License-Identifier: MIT */
#include "daemon/receipts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/decisions.h"
#include "daemon/hand.h"

enum { SIGN_S = 10 }; /* keyd is back within a fraction of it, or not at all */

struct receipt_job {
	struct list link;
	uint64_t id, until_boot_ns;
	char *body;
};

static void send_job(struct parent *p, const struct receipt_job *j)
{
	if (!p->keyd.ipc)
		return;
	ipc_begin(p->keyd.ipc, IPC_RECEIPT_SIGN, j->id);
	ipc_put_bytes(p->keyd.ipc, slice_str(j->body));
	ipc_send(p->keyd.ipc);
}

static void job_free(struct receipt_job *j)
{
	list_del(&j->link);
	free(j->body);
	free(j);
}

uint64_t receipts_ask(struct parent *p, const json_t *body)
{
	struct receipt_job *j = calloc(1, sizeof(*j));

	if (!j)
		return 0;
	list_init(&j->link);
	j->body = json_dumps(body, JSON_COMPACT);
	if (!j->body || strlen(j->body) > RECEIPT_BODY_MAX) {
		log_error("a decision is too long for a receipt");
		job_free(j);
		return 0;
	}
	j->id = ++p->next_id;
	j->until_boot_ns = clock_boot_ns() + SIGN_S * 1000000000ull;
	list_add_tail(&p->receipts, &j->link);
	send_job(p, j);
	return j->id;
}

static void done(struct parent *p, struct receipt_job *j, int error, struct slice sig)
{
	char *text = NULL;
	uint64_t id = j->id;

	if (error)
		log_error("a receipt cannot be signed: %s", strerror(error));
	else
		text = receipt_text(slice_str(j->body), p->receipt_key, sig.p);
	job_free(j);
	decision_signed(p, id, text);
	free(text);
}

void receipts_signed(struct parent *p, struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m);
	struct slice sig = ipc_get_bytes(m);

	if (!ipc_end(m) || (!error && (sig.n != RECEIPT_SIG || !p->receipt_key[0]))) {
		m->bad = true;
		return;
	}
	list_each(it, &p->receipts) {
		struct receipt_job *j = container_of(it, struct receipt_job, link);

		if (j->id == m->id) {
			done(p, j, (int)error, sig);
			return;
		}
	}
}

void receipts_keyd_ready(struct parent *p)
{
	list_each(it, &p->receipts) send_job(p, container_of(it, struct receipt_job, link));
}

void receipts_fail(struct parent *p, int error)
{
	while (!list_empty(&p->receipts))
		done(p, container_of(p->receipts.next, struct receipt_job, link), error,
		     slice_of("", 0));
}

void receipts_tick(struct parent *p)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &p->receipts) {
		struct receipt_job *j = container_of(it, struct receipt_job, link);

		if (now >= j->until_boot_ns)
			done(p, j, ETIMEDOUT, slice_of("", 0));
	}
}

/* It becomes part of a file's name. */
static bool is_name(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!strchr("0123456789abcdef", s.p[i]) || !s.p[i])
			return false;
	return s.n == RECEIPT_KEY_NAME - 1;
}

/* The public part stays beside the recordings that it verifies, also when there is another key. */
void receipts_key(struct parent *p, struct ipc_msg *m)
{
	struct slice name = ipc_get_str(m), pem = ipc_get_str(m);
	char file[sizeof(RECEIPT_KEY_PREFIX) + RECEIPT_KEY_NAME + sizeof(RECEIPT_KEY_SUFFIX)];
	int fd, flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;

	if (!ipc_end(m) || !is_name(name)) {
		m->bad = true;
		return;
	}
	(void)snprintf(p->receipt_key, sizeof(p->receipt_key), "%.*s", (int)name.n,
		       (const char *)name.p);
	(void)snprintf(file, sizeof(file), RECEIPT_KEY_PREFIX "%s" RECEIPT_KEY_SUFFIX, p->receipt_key);
	fd = openat(p->record_dir, file, flags, 0644);
	if (fd < 0 && errno == EEXIST)
		return;
	if (fd < 0 || write(fd, pem.p, pem.n) != (ssize_t)pem.n) {
		log_error("%s: %s", file, strerror(errno));
		if (fd >= 0)
			(void)unlinkat(p->record_dir, file, 0);
	}
	if (fd >= 0) {
		(void)fchmod(fd, 0644);
		(void)close(fd);
	}
}

/* ---------------------------------------------------------------- upgrades */

void receipts_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array();

	list_each(it, &p->receipts) {
		const struct receipt_job *j = container_of(it, struct receipt_job, link);
		json_t *o = json_object();

		hand_put_u64(h, o, "id", j->id);
		hand_put_u64(h, o, "until_boot", j->until_boot_ns);
		hand_put_str(h, o, "body", j->body);
		(void)json_array_append_new(list, o);
	}
	hand_put(h, root, "receipts", list);
	hand_put_str(h, root, "receipt_key", p->receipt_key);
}

void receipts_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "receipts"), i, o)
	{
		struct receipt_job *j = calloc(1, sizeof(*j));

		if (!j) {
			hand_fail(h, "receipt");
			return;
		}
		j->id = hand_u64(h, o, "id");
		j->until_boot_ns = hand_u64(h, o, "until_boot");
		j->body = hand_dup(h, o, "body");
		if (!j->body)
			hand_fail(h, "body");
		list_add_tail(&p->receipts, &j->link);
	}
	hand_str(h, root, "receipt_key", p->receipt_key, sizeof(p->receipt_key));
}
