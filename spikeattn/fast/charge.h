/* One time step of a leaky integrate-and-fire neuron, written once for the kernels that run it. */

#ifndef SPIKEATTN_CHARGE_H
#define SPIKEATTN_CHARGE_H

#include <stdint.h>

typedef int64_t i64;

/* Charge v + (x - v) / tau, or v + (x - v) * tau with `multiply`; a spike where it reaches the threshold; reset to 0.

   An infinite charge leaves NaN in v. */
static inline __attribute__((always_inline)) void spikeattn_charge(const float *restrict x, float *restrict v,
                                                                   uint8_t *restrict spikes, i64 size, float tau,
                                                                   int multiply, float threshold) {
    if (multiply)
        for (i64 i = 0; i < size; i++) {
            const float h = v[i] + (x[i] - v[i]) * tau;
            const int fired = h >= threshold;
            spikes[i] = (uint8_t)fired;
            v[i] = h * (fired ? 0.0f : 1.0f);
        }
    else
        for (i64 i = 0; i < size; i++) {
            const float h = v[i] + (x[i] - v[i]) / tau;
            const int fired = h >= threshold;
            spikes[i] = (uint8_t)fired;
            v[i] = h * (fired ? 0.0f : 1.0f);
        }
}

#endif
