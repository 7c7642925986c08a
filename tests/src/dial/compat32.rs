//! connect(2) as a 32-bit program makes it: socketcall(2) through int 0x80.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::connect;

/// Whether this processor has such programs.
pub(super) const EXISTS: bool = cfg!(target_arch = "x86_64");

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn connect(_: i32, _: &nix::sys::socket::SockaddrStorage) -> nix::Result<()> {
    Err(nix::errno::Errno::ENOSYS)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use nix::{
        errno::Errno,
        libc,
        sys::{
            mman::{MapFlags, ProtFlags, mmap_anonymous, munmap},
            socket::{SockaddrLike, SockaddrStorage},
        },
    };
    use std::{arch::asm, num::NonZero};

    /// The 32-bit numbers of socketcall and, for it, of connect (linux/net.h).
    const SOCKETCALL: u32 = 102;
    const SYS_CONNECT: u32 = 3;
    const PAGE: NonZero<usize> = NonZero::new(4096).unwrap();
    /// Where in the page the address lies, behind the three arguments.
    const ADDRESS_AT: usize = 64;

    pub(in crate::dial) fn connect(fd: i32, to: &SockaddrStorage) -> nix::Result<()> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_32BIT;
        // SAFETY: a new anonymous mapping touches no memory that is in use. The kernel reads 32-bit
        // pointers, so the arguments must lie below 4 GiB.
        let page = unsafe { mmap_anonymous(None, PAGE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }?;
        let base = page.as_ptr().cast::<u8>();
        let low = base as usize as u32;
        // SAFETY: both writes stay in the page, which is ours alone: a sockaddr_storage is 128 bytes.
        unsafe {
            base.cast::<[u32; 3]>().write([fd as u32, low + ADDRESS_AT as u32, to.len()]);
            let address = to.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(address, base.add(ADDRESS_AT), to.len() as usize);
        }
        // SAFETY: the page holds the arguments that socketcall(SYS_CONNECT) reads.
        let result = unsafe { socketcall(SYS_CONNECT, low) };
        // SAFETY: nobody holds a pointer into the page any more.
        unsafe { munmap(page, PAGE.get()) }?;
        if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
    }

    /// # Safety
    /// `arguments` must be the address of what `call` reads.
    unsafe fn socketcall(call: u32, arguments: u32) -> i32 {
        let result: u32;
        // SAFETY: int 0x80 is a system call: it changes eax and, on some kernels, r8 to r11. rbx is the
        // compiler's and is put back.
        unsafe {
            asm!(
                "xchg rbx, {call}",
                "int 0x80",
                "xchg rbx, {call}",
                call = inout(reg) u64::from(call) => _,
                inlateout("eax") SOCKETCALL => result,
                in("ecx") arguments,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        }
        result as i32
    }

    const _: () = assert!(ADDRESS_AT + size_of::<libc::sockaddr_storage>() <= PAGE.get());
}
