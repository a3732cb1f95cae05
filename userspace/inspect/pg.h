/* SPDX-License-Identifier: MIT */
/*
 * Inside of the PostgreSQL inspector: what its files offer each other. Included
 * by the pg_*.c files and by nobody else.
 */
#ifndef TIDEGATE_INSPECT_PG_H
#define TIDEGATE_INSPECT_PG_H

#include "inspect/pg_state.h"

static inline size_t pg_message_max(const struct pg *st)
{
	return st->env->limits.message_bytes ? st->env->limits.message_bytes : 16u << 20;
}

static inline size_t pg_value_max(const struct pg *st)
{
	return st->env->limits.value_bytes ? st->env->limits.value_bytes : 1u << 20;
}

/* Rows up to this are held whole; longer ones stream. */
static inline size_t pg_row_max(const struct pg *st)
{
	size_t n = st->env->limits.row_bytes;

	return n ? n : max_size(2 * pg_value_max(st), 1u << 16);
}

static inline enum pg_step pg_bad(struct pg *st, uint16_t why)
{
	st->why = why;
	return PG_BAD;
}

static inline enum pg_step pg_end(struct pg *st, uint16_t why)
{
	st->why = why;
	st->phase = PG_DONE;
	return PG_END;
}

/* postgresql.c: output and events */
/* All that is there of @m goes on unchanged, and so will its rest. */
enum pg_step pg_pass(struct pg *st, enum insp_dir dir, const struct pg_msg *m);
enum pg_step pg_drop(struct pg *st, enum insp_dir dir, const struct pg_msg *m);
struct insp_out *pg_out(const struct pg *st, enum insp_to to);
/* A message without a body, e.g. Flush. */
void pg_make_empty(struct pg *st, enum insp_to to, uint8_t type);
uint64_t pg_next_seq(struct pg *st, enum insp_dir dir);
/* A statement to the host; `seq` is given here. */
void pg_tell(struct pg *st, enum insp_dir dir, struct event *ev);
/* A question of the client's direction. */
enum insp_verdict pg_ask(struct pg *st, struct event *ev, struct insp_answer *ret);
/* A message may begin here for the client. */
bool pg_client_free(const struct pg *st);

/* pg_startup.c */
enum pg_step pg_startup(struct pg *st, struct slice in, size_t *ret_used);
enum pg_step pg_login_client(struct pg *st, const struct pg_msg *m);
enum pg_step pg_login_server(struct pg *st, const struct pg_msg *m);
enum pg_step pg_parameter_status(struct pg *st, const struct pg_msg *m);

/* pg_own.c: a login of our own. What the server asks; the client sees that it is over. */
enum pg_step pg_own_auth(struct pg *st, const struct pg_msg *m);
/* The server's error is about who logs in: *ret is what to do, and the client is not shown it. */
bool pg_own_refused(struct pg *st, const struct pg_msg *m, enum pg_step *ret);

/* pg_client.c */
enum pg_step pg_client_message(struct pg *st, const struct pg_msg *m);

/* pg_refuse.c */
enum pg_step pg_refuse_query(struct pg *st, const char *code, const struct insp_answer *a);
enum pg_step pg_refuse_extended(struct pg *st, const char *code, const struct insp_answer *a);
/* Refusals in PostgreSQL's own words. */
enum pg_step pg_refuse_missing(struct pg *st, bool portal, struct slice name);
const char *pg_sqlstate(const struct insp_answer *a);

/* pg_judge.c */
bool pg_has_high(struct slice s); /* a byte >= 0x80 */
/* What a text is, referenced for the caller. PG_OK or PG_STALL. */
enum pg_step pg_classify(struct pg *st, struct slice text, const struct sql_info **ret);
/*
 * A name that the server may take for another one's is refused: st->skip then, and nothing of
 * the message is left to do. PG_OK otherwise, or PG_STALL.
 */
enum pg_step pg_check_name(struct pg *st, const struct pg_msg *m, struct slice name);
/* Fills via and unresolved of a statement that names another. PG_OK or PG_STALL. */
enum pg_step pg_resolve(struct pg *st, struct pg_stmt *stmt);
enum insp_verdict pg_ask_statement(struct pg *st, enum event_kind kind, struct slice text,
				   struct pg_stmt *stmt, const struct pg_portal *portal,
				   bool simple, struct insp_answer *ret);
static inline bool pg_names_another(const struct sql_info *info)
{
	return info->flags & (SQL_F_EXECUTE | SQL_F_FETCH);
}
extern const struct sql_info pg_unknown_info;
/* As sql_info_ref() and _unref(), but pg_unknown_info may be given. */
const struct sql_info *pg_info_ref(const struct sql_info *info);
void pg_info_unref(const struct sql_info *info);
/* PG_STALL, after making sure that the server answers what it has. */
enum pg_step pg_stall(struct pg *st);
/* The info that results are judged by; NULL: unknown. */
const struct sql_info *pg_result_info(const struct pg_stmt *stmt);

/* pg_names.c */
struct pg_stmt *pg_stmt_new(struct pg *st, const struct sql_info *info, struct slice text,
			    struct slice types);
struct pg_portal *pg_portal_new(struct pg *st, struct pg_stmt *stmt, uint32_t nformats);
/* In place of parameters that nobody had to be shown when they were bound. */
#define PG_PARAMS_UNSEEN "not known: they were bound before the rules changed"
/* malloc()ed, NULL if there are none; @params from the format codes on (Bind). */
char *pg_params_preview(struct slice params);
struct pg_obj *pg_obj_ref(struct pg_obj *o);
void pg_obj_unref(struct pg *st, struct pg_obj *o);
struct pg_slot *pg_name_find(const struct pg_names *t, struct slice name);
/* Finds or makes; NULL: limit. */
struct pg_slot *pg_name_get(struct pg *st, struct pg_names *t, struct slice name);
/* The name may not mean what it seems to: an earlier batch is not answered. */
bool pg_name_unsure(const struct pg *st, const struct pg_names *t, const struct pg_slot *s);
/* What the name means for the next message; NULL: nothing. */
struct pg_obj *pg_name_cur(const struct pg *st, const struct pg_names *t, const struct pg_slot *s);
void pg_name_done(struct pg *st, struct pg_names *t, struct pg_slot *s);
void pg_names_forget(struct pg *st, struct pg_names *t);
void pg_names_free(struct pg *st, struct pg_names *t);
struct pg_desc *pg_desc_ref(struct pg_desc *d);
void pg_desc_unref(struct pg_desc *d);

/* pg_reply.c */
/* Adds an entry for what was just forwarded; NULL: the queue is full. */
struct pg_reply *pg_expect(struct pg *st, enum pg_reply_kind kind);
/* Takes back the last entry, which changes no name. */
void pg_unexpect(struct pg *st);
/* Room for one more. */
bool pg_can_expect(struct pg *st);
struct pg_reply *pg_head(const struct pg *st);
enum pg_outcome { PG_DONE_OK, PG_DONE_ERROR, PG_DONE_SKIPPED };
void pg_pop(struct pg *st, enum pg_outcome how);
/* Sets and counts flags. */
void pg_flag(struct pg *st, struct pg_reply *r, uint32_t flags);
/* The entry ends a batch, as Sync and Query do. */
void pg_end_batch(struct pg *st);
/* The rest of the batch was skipped by the server. */
void pg_skip_batch(struct pg *st);
/* Sends what of ours stands at the head. */
void pg_send_local(struct pg *st);
/* Entry changes @slot to @made (a reference is taken) when it succeeds. */
void pg_change(struct pg *st, struct pg_reply *r, struct pg_slot *slot, struct pg_obj *made);
/* Forgets the Syncs behind the head; false if there is anything else. */
bool pg_drop_syncs(struct pg *st);
void pg_queue_free(struct pg *st);
bool pg_queue_synced(const struct pg *st);

/* pg_server.c */
enum pg_step pg_server_message(struct pg *st, const struct pg_msg *m);
void pg_known_free(struct pg *st);

/* pg_rows.c */
/* Asks for plans; a description in @raw is remembered with them. PG_OK, PG_WAIT or PG_BAD. */
enum pg_step pg_ask_columns(struct pg *st, const struct pg_stmt *stmt, bool tainted,
			    const struct insp_column *cols, uint32_t n, struct slice raw,
			    struct pg_desc **ret);
/* The same for a RowDescription body. */
enum pg_step pg_describe_rows(struct pg *st, struct slice body, const struct pg_stmt *stmt,
			      struct pg_desc **ret);
/* Rows of @n columns that nobody described. */
enum pg_step pg_undescribed(struct pg *st, uint32_t n, struct pg_desc **ret);
/* The rows that follow are of @d; formats are the portal's if it has some. 0 or -1: memory. */
MUST_CHECK int pg_rows_begin(struct pg *st, struct pg_desc *d, const struct pg_portal *p);
/* Handles as many whole DataRow messages of @in as there are, *ret_used > 0 if any. */
enum pg_step pg_rows_batch(struct pg *st, struct slice in, size_t *ret_used);
/* Tells what was masked in the result that ends. */
void pg_rows_end(struct pg *st, const struct pg_stmt *stmt);
void pg_rows_free(struct pg *st);
/* One value, the steps around host->mask(). */
bool pg_fix_applies(const struct pg_col *c, bool binary, struct slice v);
struct slice pg_fix_value(const struct pg_col *c, bool binary);
void pg_count_fix(struct pg *st, const struct pg_col *c);
bool pg_is_jsonb(const struct pg_col *c, bool binary);
bool pg_scan_input(struct pg *st, const struct pg_col *c, uint8_t act, bool binary, struct slice v, char *conv,
		   struct slice *ret);
bool pg_plain_room(struct pg *st, size_t n);
struct slice pg_scan_output(const struct pg_col *c, uint8_t act, bool binary,
			    const struct insp_value *v, bool *ret_jsonb);

/* pg_stream.c */
enum pg_step pg_rows_stream(struct pg *st, const struct pg_msg *m);
/* More of a row that streams; uses all of @in. False: it breaks the protocol. */
bool pg_rows_more(struct pg *st, struct slice in);

/* pg_types.c */
enum pg_act pg_type_act(uint32_t type, bool binary, const struct insp_plan *p);
/* Replacement of a value by its type; p NULL: NULL. */
struct slice pg_type_zero(uint32_t type, bool binary, uint8_t how);
/* What a byte of a value too long to be held is overwritten with. */
uint8_t pg_type_fill(uint32_t type, bool binary, bool hex, size_t at, size_t left);
bool pg_json_valid(struct slice s);

/* pg_render.c */
enum { PG_RENDERED_MAX = 160 };
/* The value has to be rendered to be scanned. */
bool pg_type_renders(uint32_t type, bool binary);
/* Its text into @dst; 0: there is none. */
size_t pg_type_render(uint32_t type, bool binary, struct slice v, char *dst, size_t cap);
/* The bytes of a bytea in text form, hex or escaped: at most v.n. */
size_t pg_bytea_bytes(struct slice v, uint8_t *dst);

/* pg_copy.c */
enum pg_step pg_copy_begin(struct pg *st, const struct pg_msg *m, const struct pg_stmt *stmt);
enum pg_step pg_copy_data(struct pg *st, const struct pg_msg *m);
bool pg_copy_more(struct pg *st, struct slice in);
void pg_copy_end(struct pg *st);
void pg_copy_free(struct pg *st);

/* pg_text.c */
struct pg_local *pg_error_new(const char *severity, const char *code, struct slice message,
			      struct slice detail, struct slice hint);
void pg_notice_make(struct pg *st, struct slice text);
/* ErrorResponse and NoticeResponse of the server, masked as needed. */
enum pg_step pg_text(struct pg *st, const struct pg_msg *m, const struct pg_stmt *stmt,
		     bool asked);
enum pg_step pg_notification(struct pg *st, const struct pg_msg *m);

#endif
