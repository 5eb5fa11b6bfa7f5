#include "textflag.h"

// func handler() uintptr
TEXT ·handler(SB), NOSPLIT, $0-8
	LEAQ onRefused<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func restorer() uintptr
TEXT ·restorer(SB), NOSPLIT, $0-8
	LEAQ restore<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// onRefused is called by the kernel, in C's convention, with all signals blocked: DI is
// the signal, SI its siginfo_t, DX the ucontext_t of what it interrupts. It uses no stack
// and calls nothing. Offsets are those of asm-generic/siginfo.h and asm/sigcontext.h.
TEXT onRefused<>(SB), NOSPLIT|NOFRAME, $0
	CMPL 8(SI), $1            // si_code == SYS_SECCOMP? Others may send the signal, too.
	JNE  done
	MOVL $511, AX             // otherCalls
	CMPL 28(SI), $0xC000003E  // si_arch == AUDIT_ARCH_X86_64?
	JNE  count
	MOVL 24(SI), CX           // si_syscall
	CMPL CX, AX
	JHI  count
	MOVL CX, AX
count:
	LEAQ ·refused(SB), CX
	LOCK
	INCQ (CX)(AX*8)
	MOVQ $-1, 144(DX)         // the call's answer, uc_mcontext.rax: -EPERM
done:
	RET

TEXT restore<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ $15, AX              // rt_sigreturn
	SYSCALL
	INT  $3
