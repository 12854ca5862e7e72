#include "dispatch.h"

#include <stdatomic.h>
#include <string.h>

#include "cpu.h"

#define PA_ISA(isa, runnable) \
  extern const pa_kernels pa_kernels_##isa##_f32, pa_kernels_##isa##_f64;
#include "kernels/isa.inc"
#undef PA_ISA

static const pa_kernels *const tables[][2] = {
#define PA_ISA(isa, runnable) {&pa_kernels_##isa##_f32, &pa_kernels_##isa##_f64},
#include "kernels/isa.inc"
#undef PA_ISA
};

enum { isa_count = sizeof tables / sizeof tables[0] };

static int isa_runnable(int isa) {
  const int runnable[] = {
#define PA_ISA(isa, runnable) runnable,
#include "kernels/isa.inc"
#undef PA_ISA
  };
  return runnable[isa];
}

static atomic_int selected = -1;

static int isa_selected(void) {
  int isa = atomic_load(&selected);
  if (isa >= 0) return isa;
  for (isa = 0; !isa_runnable(isa); ++isa) continue; /* the last, generic, always is */
  atomic_store(&selected, isa);
  return isa;
}

const pa_kernels *pa_dispatch(pa_type type) { return tables[isa_selected()][type]; }

const char *pa_isa_name(void) { return tables[isa_selected()][0]->isa; }

const char *pa_isa_runnable(int index) {
  for (int isa = 0; isa < isa_count; ++isa)
    if (isa_runnable(isa) && index-- == 0) return tables[isa][0]->isa;
  return NULL;
}

int pa_isa_select(const char *name) {
  for (int isa = 0; isa < isa_count; ++isa)
    if (isa_runnable(isa) && strcmp(tables[isa][0]->isa, name) == 0) {
      atomic_store(&selected, isa);
      return 0;
    }
  return -1;
}
