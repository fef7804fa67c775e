// Stands before the C library's header of this name: a failed assertion ends the launch with an error
// in Python, not the process.
#undef assert
#define assert(condition) \
    ((condition) ? (void)0 : minseg::fail_assertion(MINSEG_HERE, #condition))
