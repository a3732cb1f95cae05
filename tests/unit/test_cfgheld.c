/* SPDX-License-Identifier: MIT */
/* What a running daemon keeps of its configuration when a new one comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/buf.h"
#include "config/cfgheld.h"
#include "config_rig.h"

struct row {
	const char *running, *fresh;
	enum key_effect least;
	const char *says[3]; /* NULL: no more */
};

static void check_row(const struct row *r)
{
	struct config *running = config_good(r->running), *fresh = config_good(r->fresh);
	uint32_t n = 0;

	assert_int_equal(config_hold(fresh, running, r->least), 0);
	for (; n < ARRAY_SIZE(r->says) && r->says[n]; n++) {
		char text[CFG_HELD_TEXT];

		assert_true(n < fresh->held->npending);
		config_pending_text(fresh, &fresh->held->pending[n], text, sizeof(text));
		assert_string_equal(text, r->says[n]);
	}
	assert_int_equal(fresh->held->npending, n);
	config_free(running); /* nothing of it is needed any more: */
	running = config_good(r->running);
	assert_string_equal(fresh->state_dir, running->state_dir);
	assert_string_equal(fresh->record_dir, running->record_dir);
	assert_int_equal(fresh->bpf, running->bpf);
	config_free(running);
	config_free(fresh);
}

static void test_hold(void **state)
{
	static const struct row rows[] = {
		{A T P, A T P, AT_UPGRADE, {NULL}},
		{A T P "daemon: {state_dir: /var/lib/tidegate, bpf: auto}\n", A T P, AT_UPGRADE, {NULL}},
		{A T P, A T P "daemon: {state_dir: /a}\n", AT_UPGRADE,
		 {"daemon.state_dir: t.yaml:4:21: /var/lib/tidegate -> /a takes a restart: "
		  "`systemctl restart tidegated`"}},
		{A T P "daemon: {state_dir: /a}\n", A T P "# one\n", AT_UPGRADE,
		 {"daemon.state_dir: t.yaml: /a -> /var/lib/tidegate (the default) takes a restart: "
		  "`systemctl restart tidegated`"}},
		{A T P "daemon: {cgroup_root: /a, user: a}\n", A T P "daemon:\n  user: b\n  bpf: on\n",
		 AT_UPGRADE,
		 {"daemon.user: t.yaml:5:9: a -> b takes an upgrade in place: `tidegate daemon upgrade`",
		  "daemon.cgroup_root: t.yaml: /a -> none (the default) takes a restart: "
		  "`systemctl restart tidegated`",
		  "daemon.bpf: t.yaml:6:8: auto -> on takes a restart: `systemctl restart tidegated`"}},
		/* After an upgrade only what takes a restart is held. */
		{A T P "daemon: {user: a}\nrecording: {dir: /a}\n",
		 A T P "daemon: {user: b}\nrecording: {dir: /b}\n", AT_START,
		 {"recording.dir: t.yaml:5:18: /a -> /b takes a restart: `systemctl restart tidegated`"}},
		/* What others take over is not held, however it is written. */
		{A T P "daemon: {workers: 1, metrics_listen: \"127.0.0.1:1\", log_level: info}\n"
		       "recording: {journal: 4MiB, durability: disk}\n",
		 A T P "daemon: {workers: 2, run_dir: /x, admin_group: g}\nrecording: {required: false}\n",
		 AT_UPGRADE, {NULL}},
		{A T P "daemon: {workers: 1}\nrecording: {journal: 4MiB}\n",
		 A T P "daemon: {workers: 2}\nrecording: {journal: 4096KiB}\n", WITH_WORKERS,
		 {"daemon.workers: t.yaml:4:19: 1 -> 2 takes an upgrade in place: `tidegate daemon upgrade`"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_row(&rows[i]);
}

/* What is held stays held when the next file comes; what is taken back is no matter any more. */
static void test_hold_again(void **state)
{
	struct config *a = config_good(A T P "daemon: {state_dir: /a}\n"),
		      *b = config_good(A T P "daemon: {state_dir: /b}\n"),
		      *c = config_good(A T P "daemon: {state_dir: /c}\n"),
		      *back = config_good(A T P "daemon: {state_dir: /a}\n");

	assert_int_equal(config_hold(b, a, AT_UPGRADE), 0);
	config_free(a);
	assert_int_equal(config_hold(c, b, AT_UPGRADE), 0);
	config_free(b);
	assert_string_equal(c->state_dir, "/a");
	assert_string_equal(c->held->pending[0].running, "/a");
	assert_string_equal(c->held->pending[0].wanted, "/c");
	assert_int_equal(config_hold(back, c, AT_UPGRADE), 0);
	assert_int_equal(back->held->npending, 0);
	config_free(c);
	config_free(back);
}

static void test_place(void **state)
{
	struct config *c = config_good(A T P "daemon: {workers: 2}\n");
	char text[64];

	config_key_place(c, "daemon", "workers", text, sizeof(text));
	assert_string_equal(text, "t.yaml:4:19");
	config_key_place(c, "recording", "journal", text, sizeof(text));
	assert_string_equal(text, "t.yaml");
	config_key_place(c, "recording", "workers", text, sizeof(text));
	assert_string_equal(text, "t.yaml");
	config_free(c);
}

/* More keys than there is room for would be held without a word. */
static void test_room(void **state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < cfg_root_section.nkeys; i++) {
		const struct cfg_section *s = cfg_root_section.keys[i].section;

		for (uint32_t k = 0; cfg_root_section.keys[i].kind == KEY_SECTION && k < s->nkeys; k++)
			n += s->keys[k].effect != AT_RELOAD;
	}
	assert_in_range(n, 1, CFG_HELD_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_hold_again),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
