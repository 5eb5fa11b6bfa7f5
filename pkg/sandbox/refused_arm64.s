#include "textflag.h"

// func handler() uintptr
TEXT ·handler(SB), NOSPLIT, $0-8
	MOVD $onRefused<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func restorer() uintptr
// The kernel brings its own.
TEXT ·restorer(SB), NOSPLIT, $0-8
	MOVD ZR, ret+0(FP)
	RET

// onRefused is called by the kernel, in C's convention, with all signals blocked: R0 is
// the signal, R1 its siginfo_t, R2 the ucontext_t of what it interrupts. It uses no stack
// and calls nothing. Offsets are those of asm-generic/siginfo.h and asm/sigcontext.h.
TEXT onRefused<>(SB), NOSPLIT|NOFRAME, $0
	MOVWU 8(R1), R3           // si_code == SYS_SECCOMP? Others may send the signal, too.
	CMP   $1, R3
	BNE   done
	MOVD  $511, R4            // otherCalls
	MOVWU 28(R1), R3          // si_arch == AUDIT_ARCH_AARCH64?
	MOVD  $0xC00000B7, R5
	CMP   R5, R3
	BNE   count
	MOVWU 24(R1), R3          // si_syscall
	CMP   R4, R3
	BHI   count
	MOVD  R3, R4
count:
	MOVD  $·refused(SB), R5
	ADD   R4<<3, R5
again:
	LDAXR (R5), R3
	ADD   $1, R3
	STLXR R3, (R5), R6
	CBNZ  R6, again
	MOVD  $-1, R3
	MOVD  R3, 184(R2)         // the call's answer, uc_mcontext.regs[0]: -EPERM
done:
	RET
