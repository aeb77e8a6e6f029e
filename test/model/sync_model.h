/* sync_model.h: the words of src/sync.h as relacy sees them, and the memory they stand in.
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The library's sources make their objects out of raw memory and have static ones. Relacy's variables have
 * constructors, and live within one execution. So a field here is a shell: a static one is opened when an execution
 * begins and closed when it ends; one in a block is opened by the allocation, which writes its zeros on the
 * allocating thread, and closed by the free.
 *
 * Each block has a life, a plain variable: allocation and free write it, and each access to a field of the block
 * reads it first. So an access that is not ordered after the allocation, or before the free, is a data race, be the
 * access itself atomic or not. Relacy alone would see only what happens after the free in the order of execution. */
#ifndef SYNC_MODEL_H
#define SYNC_MODEL_H

#include <relacy/relacy.hpp>
#include <new>
#include <vector>
#undef new                      /* relacy's, which cannot place */
#undef delete
#undef assert
#undef errno
static int model_errno;
#define errno model_errno

extern "C" char __data_start, _end;             /* the linker's: all that is static lies between */

struct model_block;
struct model_field {
    model_field *next;
    model_block *block;         /* NULL: static, or of a scenario, or on a stack */
    bool local;                 /* open for its whole life */
    bool late;                  /* static in a function, so made in the middle of an execution */
    model_field();
    virtual void open(bool zeroed) = 0;
    virtual void close() = 0;
    void touch(rl::debug_info_param info) const;
};

struct model_block {
    char *memory;
    size_t size;
    model_field *fields;
    rl::var<int> *life;
    bool alive;
};
enum { MODEL_BLOCKS = 256 };
static model_block model_blocks[MODEL_BLOCKS];
static unsigned model_block_count;
static model_block *model_building;
static model_field *model_statics;

inline model_field::model_field() : next(NULL), block(model_building), local(false), late(false)
{
    if (block) {
        next = block->fields;
        block->fields = this;
    } else if ((char *)this >= &__data_start && (char *)this < &_end) {
        next = model_statics;
        model_statics = this;
        late = rl::is_ctx();
    } else {
        local = true;
    }
}
inline void model_field::touch(rl::debug_info_param info) const
{
    RL_ASSERT_IMPL((uintptr_t)this >= 4096, rl::test_result_access_to_freed_memory, "", info);   /* of NULL */
    if (!block) return;
    RL_ASSERT_IMPL(block->alive, rl::test_result_access_to_freed_memory, "", info);
    (*block->life)(info).load();
}

template <class T> struct model_atomic : model_field {
    alignas(16) char raw[sizeof(rl::atomic<T>)];
    model_atomic() { if (local || late) open(true); }
    model_atomic(int) : model_atomic() {}       /* {0} in the initializer of a static struct */
    ~model_atomic() { if (local) close(); }
    rl::atomic<T> *at() const { return (rl::atomic<T> *)(void *)raw; }
    void open(bool zeroed)
    {
        ::new ((void *)raw) rl::atomic<T>();
        if (zeroed) init(0);
    }
    void close() { at()->~atomic(); }
    /* To memory that nobody else reaches yet: no other thread needs to run before it. */
    void init(T v)
    {
        rl::preemption_disabler off(rl::ctx());
        touch(RL_INFO);
        at()->store(v, rl::mo_relaxed, RL_INFO);
    }
    typedef rl::memory_order order;
    typedef rl::debug_info_param where;
    T load(order mo, where info) const { touch(info); return at()->load(mo, info); }
    void store(T v, order mo, where info) { touch(info); at()->store(v, mo, info); }
    T exchange(T v, order mo, where info) { touch(info); return at()->exchange(v, mo, info); }
    T fetch_add(T v, order mo, where info) { touch(info); return at()->fetch_add(v, mo, info); }
    T fetch_or(T v, order mo, where info) { touch(info); return at()->fetch_or(v, mo, info); }
    T fetch_and(T v, order mo, where info) { touch(info); return at()->fetch_and(v, mo, info); }
    T fetch_xor(T v, order mo, where info) { touch(info); return at()->fetch_xor(v, mo, info); }
    bool compare_exchange_strong(T &e, T v, order mo, where info)
    {
        touch(info);
        return at()->compare_exchange_strong(e, v, mo, info);
    }
};

template <class T> struct model_var : model_field {
    alignas(16) char raw[sizeof(rl::var<T>)];
    model_var() { if (local || late) open(true); }
    ~model_var() { if (local) close(); }
    rl::var<T> *at() const { return (rl::var<T> *)(void *)raw; }
    void open(bool zeroed)
    {
        ::new ((void *)raw) rl::var<T>();
        if (zeroed) (*at())(RL_INFO).store((T)0);
    }
    void close() { at()->~var(); }
    struct access {
        const model_var *v;
        rl::debug_info info;
        T load() const { v->touch(info); return (*v->at())(info).load(); }
        void store(T x) const { v->touch(info); (*v->at())(info).store(x); }
    };
    access operator()(rl::debug_info_param info) const
    {
        access a = {this, info};
        return a;
    }
};

typedef model_atomic<uint16_t> sync_u16;
typedef model_atomic<uint32_t> sync_u32;
typedef model_atomic<uint64_t> sync_u64;
typedef model_atomic<int64_t> sync_i64;
typedef model_atomic<uintptr_t> sync_ptr;

/* ------------------------------------------------------------------------------------------------ orders */

/* One operation of the sources, known from before main, executed or not. What is weakened is a half at all the
 * operations that name it, or at one of them alone. */
struct model_site {
    unsigned file;              /* a hash of its name */
    int number, line;           /* its place among all of the program */
    int half[4];                /* < 0: none */
    const char *path, *function;        /* once it was executed */
    bool used;
    model_site(int n, unsigned f, int l, int r, int a, int h, int g)
        : file(f), number(n), line(l), path(0), function(0), used(false)
    {
        half[0] = r;
        half[1] = a;
        half[2] = h;
        half[3] = g;
        all().push_back(this);
    }
    static std::vector<model_site *> &all()
    {
        static std::vector<model_site *> sites;
        return sites;
    }
    bool names(int what) const
    {
        for (int i = 0; i < 4; i++)
            if (half[i] >= 0 && half[i] == what) return true;
        return false;
    }
    rl::memory_order order(const char *p, const char *f);
};
extern int sync_weak;                   /* the half that is weakened; -1: none */
extern model_site *sync_weak_site;      /* the operation that lacks it; NULL: all do */

inline rl::memory_order model_site::order(const char *p, const char *f)
{
    if (!used) {
        used = true;
        path = p;
        function = f;
    }
    int weak = !sync_weak_site || sync_weak_site == this ? sync_weak : -1;
    bool cut = weak >= 0 && names(weak);
    bool r = half[0] >= 0 && half[0] != weak, a = half[1] >= 0 && half[1] != weak;
    if (half[2] >= 0 && !cut) return rl::mo_seq_cst;
    return r && a ? rl::mo_acq_rel : r ? rl::mo_release : a ? rl::mo_acquire : rl::mo_relaxed;
}

constexpr unsigned model_hash(const char *s, unsigned h = 5381)
{
    return *s ? model_hash(s + 1, *s == '/' ? 5381 : h * 33 + (unsigned char)*s) : h;
}
template <int N, unsigned FILE, int LINE, int R, int A, int H, int G> struct model_site_of { static model_site it; };
template <int N, unsigned FILE, int LINE, int R, int A, int H, int G>
model_site model_site_of<N, FILE, LINE, R, A, H, G>::it(N, FILE, LINE, R, A, H, G);
#define sync_order(r, a, h, g) \
    (model_site_of<__COUNTER__, model_hash(__FILE__), __LINE__, (r), (a), (h), (g)>::it.order(__FILE__, __FUNCTION__))

/* ------------------------------------------------------------------------------------------------ memory */

static model_block *model_block_new(size_t size, size_t align = 64)
{
    RL_VERIFY(model_block_count < MODEL_BLOCKS);
    model_block *b = &model_blocks[model_block_count++];
    b->size = size;
    if (posix_memalign((void **)(void *)&b->memory, align, size)) abort();
    memset(b->memory, 0, size);
    b->fields = NULL;
    b->alive = true;
    b->life = (rl::var<int> *)(::malloc)(sizeof *b->life);
    ::new ((void *)b->life) rl::var<int>();
    (*b->life)(RL_INFO).store(1);
    return b;
}

/* A T in a block of its own, with `more` bytes behind it; its fields read 0, or must be written first. */
template <class T> static T *model_make(size_t more = 0, bool zeroed = true, size_t align = 64)
{
    model_block *b = model_block_new(sizeof(T) + more, align);
    model_building = b;
    T *p = ::new ((void *)b->memory) T;
    model_building = NULL;
    for (model_field *f = b->fields; f; f = f->next) f->open(zeroed);
    return p;
}

static model_block *model_block_of(const void *p)
{
    for (unsigned i = 0; i < model_block_count; i++)
        if ((size_t)((const char *)p - model_blocks[i].memory) < model_blocks[i].size) return &model_blocks[i];
    return NULL;
}

static void model_free(void *p)
{
    if (!p) return;
    model_block *b = model_block_of(p);
    RL_ASSERT(b && b->memory == (char *)p);
    RL_ASSERT_IMPL(b->alive, rl::test_result_double_free, "", RL_INFO);
    (*b->life)(RL_INFO).store(0);
    for (model_field *f = b->fields; f; f = f->next) f->close();
    b->alive = false;
}

/* Around each execution. What an execution that failed has left is only forgotten. */
static void model_begin()
{
    for (unsigned i = 0; i < model_block_count; i++) {
        (::free)(model_blocks[i].memory);
        (::free)(model_blocks[i].life);
    }
    model_block_count = 0;
    model_building = NULL;
    for (model_field *f = model_statics; f; f = f->next) f->open(true);
}
static void model_end()
{
    for (unsigned i = 0; i < model_block_count; i++) {
        RL_ASSERT_IMPL(!model_blocks[i].alive, rl::test_result_memory_leak, "a block was not freed", RL_INFO);
        model_blocks[i].life->~var();
    }
    for (model_field *f = model_statics; f; f = f->next) f->close();
}

#endif
