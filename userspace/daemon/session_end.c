/* SPDX-License-Identifier: MIT */
#include "daemon/session_end.h"

#include <poll.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/session_rec.h"
#include "policy/policy.h"

static bool begin_grace(struct session *s, uint64_t grace_ms, uint16_t reason, const char *words)
{
	char text[320];

	s->grace = malloc(sizeof(*s->grace));
	if (!s->grace)
		return false;
	s->grace->until_boot_ns = clock_boot_ns() + grace_ms * 1000000;
	s->grace->reason = reason;
	(void)snprintf(s->grace->words, sizeof(s->grace->words), "%s", words);
	s->grant_until_boot_ns = 0;
	s->dirty = true;
	/* Also what was prepared is asked about again. */
	s->env.rules++;
	s->env.generation++;
	if (!srec_policy(s))
		s->fatal = TG_R_RECORD_FAILED;
	log_info("session %s: %s; what runs has %llu ms to finish", session_id(s).text, words,
		 (unsigned long long)grace_ms);
	(void)snprintf(text, sizeof(text),
		       "%s: what runs may finish within %llu s, new statements are refused", words,
		       (unsigned long long)(grace_ms + 999) / 1000);
	session_notice(s, slice_str(text));
	session_refuse_held(s, reason);
	return true;
}

void session_expire(struct session *s, uint16_t reason, const char *words)
{
	struct access_decision d = {0};

	if (s->grace || s->state >= SESSION_END)
		return;
	if (s->view)
		policy_access(s->view->view, &d);
	if (!d.grace_ms || s->state != SESSION_RUN || !s->insp->idle || s->insp->idle(s->st) ||
	    !begin_grace(s, d.grace_ms, reason, words)) {
		session_end(s, reason, words);
		return;
	}
	session_arm(s);
	session_resume(s);
}

/*
 * What was closed with the process is on its way: that end is an ordinary one. But who said that he
 * will say no more, and left the socket to somebody, looks the same: that one reads no more for long.
 */
void session_orphaned(struct session *s)
{
	struct pollfd p = {.fd = s->leg[INSP_C2S].fd, .events = POLLRDHUP};

	if (s->state >= SESSION_END || p.fd < 0)
		return;
	if (poll(&p, 1, 0) == 0) {
		session_end(s, TG_R_PROCESS_GONE, NULL);
		return;
	}
	s->orphan = true;
	session_fin(s);
}

bool grace_allows(const struct sql_info *info)
{
	return info->effects == SQL_TRANSACTION && info->flags & SQL_F_TX_END &&
	       !(info->flags & (SQL_F_TX_BEGIN | SQL_F_MULTI));
}
