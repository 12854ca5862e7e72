/* What is left to do when a unit has seen all its keys: divide, transpose back, write. */
#ifndef PA_FINISH_H
#define PA_FINISH_H

#include "job.h"

void pa_finish_unit(job *j, const unit *u, const desk *s, char *states);

/* The k strongest keys of each row are kept in the output itself: of one square what is stronger
 * than what is there. The scores become weights when the unit is finished. */
void pa_forget_strongest(const job *j, const unit *u);
void pa_keep_strongest(const job *j, const unit *u, const desk *s, const panel *p, pa_span keys);

#endif
