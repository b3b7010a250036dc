import CLinux
import Glibc

/// A link between two tap devices in two network namespaces, on which every frame takes a fixed time.
package struct DelayLink {
    private let ends: [Descriptor]

    /// One end: a tap device that exists, and a process in its network namespace.
    package struct End: Sendable {
        package let device: String
        package let process: Int32

        /// Names an end.
        package init(device: String, process: Int32) {
            self.device = device
            self.process = process
        }
    }

    /// Attaches to both devices.
    package init(_ first: End, _ second: End) throws(SyscallError) {
        var ends: [Descriptor] = []
        for end in [first, second] {
            let namespace = try Descriptor(open: "/proc/\(end.process)/ns/net", O_RDONLY)
            let raw = try syscall("ioctl TUNSETIFF", end.device) { smi_tap_attach(namespace.raw, end.device) }
            ends.append(Descriptor(owning: raw))
        }
        self.ends = ends
    }

    /// Carries frames, `delay` late each way, in the calling thread.
    ///
    /// Returns only by throwing, when a device is gone.
    package func run(delay: Duration, limit: UInt64 = 64 << 20) throws(SyscallError) -> Never {
        let (seconds, attoseconds) = delay.components
        let nanoseconds = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        throw SyscallError("read", code: smi_delay_frames(ends[0].raw, ends[1].raw, nanoseconds, limit), subject: "tap")
    }
}
