/* handler_model.h: the memory of src/handler.c in a model, where signals have no actions.
 * SPDX-License-Identifier: BSD-2-Clause */
static struct record *record_new(void) { return model_make<struct record>(); }
static void enter(sigset_t *) {}
static void leave(const sigset_t *) {}
static void action_set(int) {}
static void actions_restore(uint64_t) {}
static uint64_t wanted(uint32_t) { return 0; }
static void setup(void) {}
static pthread_once_t once;
#define pthread_once(once, setup) 0
