// cell_model.cc: pages of cells: freed by two threads, taken by a third, given back by the last.
// SPDX-License-Identifier: BSD-2-Clause
//
// Real code: cell.c. Pages have three cells here, and a shelf two places.
#include "model.h"
#include "cell.c"

static struct shelf *model_shelf()
{
    return model_make<struct shelf>();
}
static struct page *model_page(size_t align)
{
    return model_make<struct page>(CELL_PAGE - sizeof(struct page), true, align);
}

/* What the owner of a cell has in it: two owners at a time, or one too early, are a data race. */
enum { CELLS = 32 };
static struct content {
    void *cell;
    sync_plain(int) word;
} content[CELLS];
static void *use(void *cell)
{
    for (unsigned i = 0; i < CELLS; i++) {
        if (content[i].cell && content[i].cell != cell) continue;
        content[i].cell = cell;
        sync_set(content[i].word, 1);
        return cell;
    }
    abort();
}

struct cells : scenario {
    struct magazine m[3];
    void *c[6];
    cells(const char *name, unsigned threads, unsigned bound) : scenario(name, threads, bound) {}
    /* n cells, of which those of the first page come first. */
    void take(unsigned n)
    {
        memset(m, 0, sizeof m);
        for (unsigned i = 0; i < CELLS; i++) content[i].cell = NULL;
        for (unsigned i = 0; i < n; i++) c[i] = use(cell_get(&m[0]));
    }
    void put(unsigned i, void *cell) { m[i].cell[m[i].count++] = use(cell); }
    /* As cell_drain, with a last use of each cell. */
    void drain(unsigned i)
    {
        while (m[i].count > 0) cell_back(use(m[i].cell[--m[i].count]));
    }
    void after()
    {
        for (unsigned i = 0; i < 3; i++) cell_drain(&m[i]);
        RL_ASSERT(cell_pages() == 0);                                           // C3
        RL_ASSERT(sync_load_relaxed(&stock, stat) == 0);
        for (uintptr_t s = sync_load_relaxed(&shelves, owned), next; s; s = next) {
            next = sync_load_relaxed(&((struct shelf *)s)->next, owned);
            model_free((struct shelf *)s);
        }
    }
};
#define CELLS(name, threads, bound) struct name : cells { name() : cells(#name, threads, bound) {}

// C3: two threads bring back all the cells of a page between them: it is freed once, by one of them.
CELLS(back_back, 2, 5)
    void before() { take(3); put(0, c[0]); put(1, c[1]); put(1, c[2]); }
    void thread(unsigned i) { drain(i); }
} back_back;
CELLS(back_three, 3, 2)
    void before() { take(3); for (int i = 0; i < 3; i++) put(i, c[i]); }
    void thread(unsigned i) { drain(i); }
} back_three;
// C1: the last cells come back while another thread takes some.
CELLS(back_take, 2, 5)
    void before() { take(3); drain(0); put(0, c[0]); put(0, c[1]); put(0, c[2]); }
    void thread(unsigned i)
    {
        if (i == 0) drain(0);
        else put(1, cell_get(&m[1]));
    }
} back_take;
CELLS(back_back_take, 3, 2)
    void before() { take(3); put(0, c[0]); put(1, c[1]); put(1, c[2]); }
    void thread(unsigned i)
    {
        if (i < 2) {
            drain(i);
        } else {
            put(2, cell_get(&m[2]));
            drain(2);
        }
    }
} back_back_take;
// C2: a page with free cells is found by two that look for one; neither takes the other's.
CELLS(take_take, 2, 5)
    void before() { take(3); put(0, c[0]); put(0, c[1]); drain(0); put(2, c[2]); }
    void thread(unsigned i) { put(i, cell_get(&m[i])); }
} take_take;
CELLS(take_take_back, 3, 2)
    void before() { take(3); put(0, c[0]); drain(0); put(2, c[1]); put(2, c[2]); }
    void thread(unsigned i)
    {
        if (i < 2) put(i, cell_get(&m[i]));
        else drain(2);
    }
} take_take_back;
// Two pages go and come: their places on the shelf are used again.
CELLS(two_pages, 2, 3)
    void before() { take(6); for (int i = 0; i < 6; i++) put(i / 3, c[i]); }
    void thread(unsigned i)
    {
        drain(i);
        put(i, cell_get(&m[i]));
    }
} two_pages;

// From nothing: the first shelf is there before the hints that lead to it.
CELLS(cold, 2, 4)
    void before() { take(0); }
    void round(unsigned i)
    {
        void *mine = use(cell_get(&m[i]));
        drain(i);
        put(i, mine);
    }
    void thread(unsigned i)
    {
        if (i == 0) {
            MODEL_AT_ONCE;
            round(i);
        } else round(i);
    }
} cold;
// Each needs a page, and a shelf for it, and leaves them to the other.
CELLS(two_shelves, 2, 3)
    void before() { take(6); }
    void thread(unsigned i)
    {
        put(i, cell_get(&m[i]));
        drain(i);
        put(i, cell_get(&m[i]));
    }
    void after()
    {
        for (int i = 0; i < 6; i++) put(2, c[i]), cell_drain(&m[2]);
        cells::after();
    }
} two_shelves;

int main(int argc, char **argv) { return model_main(argc, argv); }
