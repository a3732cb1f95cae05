/* SPDX-License-Identifier: MIT */
/*
 * What it costs a worker to find the grant that holds for a session, among as many as it
 * keeps. One JSON line, CPU time, median of nine runs.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/grants_known.h"
#include "runs.h"

enum { RUNS = 9, FINDS = 100000, RECEIPT = 600 };

static void fill(struct session *s, const struct access_decision *d)
{
	static const uint8_t receipt[RECEIPT];
	struct verdict v = {.until_boot_ns = UINT64_MAX, .receipt = slice_of(receipt, RECEIPT)};
	char user[32];

	s->user = user;
	(void)snprintf(v.grant, sizeof(v.grant), "grant");
	for (unsigned i = 0; i < GRANTS_KNOWN_MAX; i++) {
		char *asked;

		(void)snprintf(user, sizeof(user), "user%u", i);
		asked = grants_known_asked(s, d);
		if (!asked)
			exit(1);
		grants_known_keep(s->w, asked, &v);
		free(asked);
	}
	s->user = "user7";
}

int main(void)
{
	static struct worker w;
	static struct session s;
	struct cfg_target target = {.name = (char[]){"customers"}};
	struct wview view = {.agent = (char[]){"support-bot"}, .target = &target};
	struct access_decision d = {.via = ACCESS_IDP, .ways = "sso", .scope = "db.read"};
	struct verdict v;
	double t[RUNS];

	s.w = &w;
	s.view = &view;
	s.database = "sales";
	fill(&s, &d);
	for (unsigned r = 0; r < RUNS; r++) {
		double from = cpu_us();

		for (unsigned i = 0; i < FINDS; i++)
			if (!grants_known_find(&s, &d, &v))
				return 1;
		t[r] = (cpu_us() - from) / FINDS;
	}
	printf("{\"bench\": \"grant\", \"grants\": %d, \"known_us\": %.3f}\n", GRANTS_KNOWN_MAX,
	       runs_median(t, RUNS));
	grants_known_done(&w);
	return 0;
}
