import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Serves the memory of restored processes from their backing files, in the place of CRIU's lazy-pages daemon.
///
/// `criu restore --lazy-pages` connects to `lazy-pages.socket` in its work directory and hands over a userfaultfd for
/// each task. Faults are answered at once, then the hot pages are copied in, then the rest. All of it happens on one
/// thread of its own, which waits for nothing but these descriptors. With a ``PageKeeper`` a server that dies leaves
/// faults waiting, and another takes over with ``takeOver()``.
package final class PageServer: Sendable {
    /// What happened to the processes being served.
    package enum Event: Sendable, Equatable {
        /// CRIU has restored all tasks; they are stopped still.
        case restored
        /// All pages of a process are in; its userfaultfd may go (``PageServer/finish(_:)``).
        case complete(pid: pid_t)
        /// The process has ended.
        case gone(pid: pid_t)
        /// Pages cannot be served: the process waits, and must be ended.
        case failed(PageInError)
    }

    let loop: PageServerLoop
    let control: PageServerControl

    /// A server; `sources` gives the pages of a process by its number in its own pid namespace.
    ///
    /// Both closures run on the server's thread and must not wait.
    package init(
        keeper: PageKeeper? = nil,
        sources: @escaping @Sendable (pid_t) -> PageSource?,
        onEvent: @escaping @Sendable (Event) -> Void = { _ in }
    ) throws {
        control = try PageServerControl()
        loop = PageServerLoop(control: control, keeper: keeper, sources: sources, onEvent: onEvent)
    }

    /// Listens at a path (`lazy-pages.socket` in CRIU's work directory) and starts to serve.
    package func listen(at path: String) throws {
        unlink(path)
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let socket = Descriptor(owning: try syscall("socket") { Glibc.socket(AF_UNIX, type, 0) })
        try withAddress(path) { address, length in
            _ = try syscall("bind", path) { bind(socket.raw, address, length) }
        }
        try syscall("listen", path) { Glibc.listen(socket.raw, 4) }
        control.enqueue { [loop] in loop.listening = socket }
        try loop.start()
    }

    /// Takes over what a server that died was serving, from the keeper.
    package func takeOver() throws {
        control.enqueue { [loop] in loop.takeOver() }
        try loop.start()
    }

    /// Ends the service of a process and gives up its userfaultfd: absent pages read as zero from now on.
    package func finish(_ pid: pid_t) {
        control.enqueue { [loop] in loop.finish(pid) }
    }

    /// Pages that each process still lacks.
    package func pagesLeft() async -> [pid_t: UInt64] {
        await onThread { $0.pagesLeft() }
    }

    /// Does something on the server's thread, and waits for it.
    func onThread<Value: Sendable>(_ body: @escaping @Sendable (PageServerLoop) -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            control.enqueue { [loop] in continuation.resume(returning: body(loop)) }
        }
    }

    /// Looks again for late pages that have arrived.
    package func wake() {
        control.enqueue { [loop] in loop.retryAll() }
    }

    /// Ends the server as it stands.
    ///
    /// Without a keeper the processes read zeros where pages are missing.
    package func stop() {
        control.enqueue { [loop] in loop.isStopping = true }
    }

    /// Whether a stopped server's thread has ended: only then may another take over.
    package var isStopped: Bool { loop.isEnded }

    deinit {
        stop()
    }
}

/// Work handed to the server's thread.
final class PageServerControl: Sendable {
    let eventfd: Descriptor
    private let queue = Mutex<[@Sendable () -> Void]>([])
    /// Set once the thread has ended: work is done by whoever brings it, one after the other.
    private let closed = Mutex(false)

    init() throws(SyscallError) {
        eventfd = Descriptor(owning: try syscall("eventfd") { smi_eventfd() })
    }

    func enqueue(_ work: @escaping @Sendable () -> Void) {
        // Work that nobody takes would keep the server alive, which keeps the work.
        let isDone = closed.withLock { closed in
            if closed { work() } else { queue.withLock { $0.append(work) } }
            return closed
        }
        guard !isDone else { return }
        var one: UInt64 = 1
        _ = write(eventfd.raw, &one, 8)
    }

    /// Does what has been brought so far; the thread ends.
    func close() {
        closed.withLock { closed in
            closed = true
            for item in taken() { item() }
        }
    }

    private func taken() -> [@Sendable () -> Void] {
        queue.withLock { queue in
            defer { queue = [] }
            return queue
        }
    }

    func run() {
        var count: UInt64 = 0
        _ = read(eventfd.raw, &count, 8)
        for item in taken() { item() }
    }
}
