/* SPDX-License-Identifier: MIT */
/* What of a session goes into its recording. False: the recording is required and has failed. */
#ifndef TIDEGATE_DAEMON_SESSION_REC_H
#define TIDEGATE_DAEMON_SESSION_REC_H

#include "daemon/session.h"

/* --- session_rec.c */
/* Its recording begins with the first that is put into it: who says nothing leaves none. */
bool srec_open(struct session *s);
/* The same for one that the parent refuses for @reason; names are empty where they are not known. */
bool srec_refused(struct session *s, struct slice agent, struct slice target, uint16_t reason);
bool srec_bytes(struct session *s, enum insp_dir dir, const uint8_t *p, size_t n);
bool srec_json(struct session *s, enum tg_rec_type type, struct slice json);
bool srec_command(struct session *s, const struct event *ev, const char *verdict,
		  const char *rule, uint16_t reason);
/* @word: "allow", "deny", "observe". */
bool srec_decision(struct session *s, const char *what, const char *word, const struct verdict *v);
bool srec_login(struct session *s);
bool srec_error(struct session *s, const char *who, struct slice code, struct slice message,
		uint32_t plan);
void srec_close(struct session *s);
/* There is a recording, or would be. */
static inline bool srec_has(const struct session *s)
{
	return s->rec || s->head;
}
/* Of what is approved: the statement, with its parameters where it has some. */
void statement_digest(const struct event *ev, uint8_t ret[32]);
/* The text of the statement as it may be shown: secrets overwritten. */
void srec_put_text(struct session *s, struct ipc *ipc, const struct event *ev);

/* --- session_facts.c */
/* Sets @ret->id; a plan that is in the recording already is not written again. */
bool srec_plan(struct session *s, const struct insp_column *cols, uint32_t n,
	       const struct insp_plan *plans, struct insp_shape *ret);
bool srec_result(struct session *s, const struct event *ev);
bool srec_masked(struct session *s, const struct event *ev);
/* A refusal, as the inspector is told. */
bool srec_answer(struct session *s, uint64_t seq, const struct insp_answer *a);
/* The session was let in and Tidegate logs in itself. */
bool srec_login_as(struct session *s, uint64_t seq);
/* What the inspector is made to say: "notice" or "end". */
bool srec_said(struct session *s, const char *what, const struct insp_words *words);
/* Question @seq was closed by the inspector itself: its message is skipped. */
bool srec_dropped(struct session *s, uint64_t seq);
bool srec_policy(struct session *s);
bool srec_cancel(struct session *s);
/* The server's leg speaks TLS. */
bool srec_tls(struct session *s);
void srec_put_inspector(const struct session *s, struct jsonw *j);
void srec_facts_free(struct session *s);

#endif
