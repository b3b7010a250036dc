import CLinux
import Glibc
import LinuxSystem

/// One `criu swrk`: started in advance, serves one dump or one restore, then exits.
///
/// What was measured (kernel 6.18, CRIU 4.2.1; sandboxes with read-only binds over /proc/sys, /dev/null bound over masked
/// /proc files, a pty session whose master init holds, tasks of another user, an established TCP connection):
/// - After `post-dump` the tasks are cured and stopped by ptrace. A cgroup frozen there reports `frozen 1` within 1 ms,
///   and the tasks stay frozen when CRIU detaches and exits; `cgroup.freeze` 0 lets them go on as if nothing had happened.
/// - The same holds at `pre-resume`, once swrk itself has been moved out of the cgroup.
/// - CRIU only logs a failed `pre-resume`, and would let the tasks run: the preload library's gate kills them and CRIU
///   itself instead. (CRIU alone would wait for ever for an init whose children only their tracer can collect.)
/// - A daemon that dies makes CRIU fail at the next notification: a dump rolls back, a restore kills what it made.
/// - A `SIGKILL` of swrk *itself* in the middle of a dump kills a task in about one case of six: the kernel lets a
///   traced task run on with the registers that CRIU had lent it. Nothing here ever does that to a dump.
/// - CLOCK_MONOTONIC continues inside across hosts whose own offsets differ by 600,000 s.
package final class CriuService: Sendable {
    /// swrk's process.
    package let child: ChildProcess
    /// What its tasks can inherit; nil where it is there for a dump.
    package let inheritance: CriuInheritance?
    private let socket: Descriptor
    private var restores: Bool { inheritance != nil }

    private init(child: ChildProcess, socket: Descriptor, inheritance: CriuInheritance?) {
        self.child = child
        self.socket = socket
        self.inheritance = inheritance
    }

    deinit {
        // No request is under way here: each holds its service. An idle swrk has nothing to undo.
        guard socket.raw >= 0 else { return }
        inheritance?.letGo()
        socket.close()
        try? child.signal(SIGKILL)
        _ = try? child.wait()
    }

    /// Starts swrk; returns when it has exec'd, it is ready about 10 ms later.
    package static func start(
        _ installation: CriuInstallation,
        context: CriuContext
    ) throws(IsolationError) -> CriuService {
        do {
            let (ours, theirs) = try socketPair()
            let orders = context.gate == nil ? nil : try socketPair()
            let gate = context.gate.map { ["SMIRUN_CRIU_GATE=" + $0] } ?? []
            let carry = context.carry.map { ["SMIRUN_CRIU_CARRY=" + $0] } ?? []
            var request = installation.request(["swrk", "3"], environment: gate + carry)
            request.descriptors = [3: theirs]
            if let orders {
                request.environment.append("SMIRUN_CRIU_INHERIT=4")
                request.descriptors[4] = orders.theirs
            }
            request.directory = "/"
            request.namespaces = [context.networkNamespace]
            request.cgroup = context.cgroup
            request.legacyCgroups = context.legacyCgroups
            request.newCgroupNamespace = context.newCgroupNamespace
            let child = try request.start()
            // What it restores gets the priority that it had.
            Urgency.raise(child.pid)
            let inheritance = orders.map {
                CriuInheritance(pid: child.pid, orders: $0.ours, bytes: context.inheritable)
            }
            return CriuService(child: child, socket: ours, inheritance: inheritance)
        } catch {
            throw IsolationError(
                .systemCall,
                cause: "criu swrk could not be started: \(error)",
                remedy: "see 'smirun doctor'; scripts/install-criu reinstalls CRIU"
            )
        }
    }

    private static func socketPair() throws(SyscallError) -> (ours: Descriptor, theirs: Descriptor) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        try syscall("socketpair") { socketpair(AF_UNIX, type, 0, &ends) }
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }

    /// Ends an idle swrk at once.
    ///
    /// Blocks for a few milliseconds.
    package func abandon() {
        guard socket.raw >= 0 else { return }
        inheritance?.letGo()
        socket.close()
        try? child.signal(SIGKILL)
        _ = try? child.wait()
    }

    // MARK: One conversation

    enum Outcome {
        case success(pid: Int32?)
        /// CRIU said no, or died; its log has the reason.
        case failure
    }

    /// Sends the request and answers notifications until the result has come and swrk has ended, or will without delay
    /// for what it has restored: it stays as long as its tasks are to share memory with it.
    func converse(
        _ request: [UInt8],
        within limit: Duration,
        on notification: (String, Int32?) throws -> Void
    ) throws -> Outcome {
        let deadline = ContinuousClock.now + limit
        var isRestored = false
        defer {
            if isRestored {
                runOnThread { self.end(before: ContinuousClock.now + .seconds(10)) }
            } else {
                inheritance?.letGo()
                end(before: ContinuousClock.now + .seconds(10))
            }
        }
        inheritance?.seal()
        try send(request)
        var callbackError: (any Error)?
        while true {
            guard let packet = try receive(before: deadline) else {
                if let callbackError { throw callbackError }
                return .failure
            }
            switch CriuResponse(packet) {
            case .notification(let name, let pid):
                var accepted = callbackError == nil
                do {
                    if accepted { try notification(name, pid) }
                } catch {
                    callbackError = error
                    accepted = false
                }
                try send(CriuRequest.acknowledge(accepted))
            case .result(let success, let pid):
                if let callbackError { throw callbackError }
                isRestored = success && restores
                return success ? .success(pid: pid) : .failure
            case nil:
                throw SyscallError("recv", code: EBADMSG, subject: "criu swrk")
            }
        }
    }

    private func send(_ packet: [UInt8]) throws(SyscallError) {
        try syscall("send", "criu swrk") { Glibc.send(socket.raw, packet, packet.count, Int32(MSG_NOSIGNAL)) }
    }

    /// The next packet; nil once swrk has ended.
    ///
    /// Watches the process too: an orphan of swrk can keep the socket open.
    private func receive(before deadline: ContinuousClock.Instant) throws -> [UInt8]? {
        while true {
            var files = [
                pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: child.pidfd.raw, events: Int16(POLLIN), revents: 0),
            ]
            let ready = try syscall("poll") { poll(&files, 2, deadline.millisecondsLeft) }
            if ready == 0 {
                throw IsolationError(
                    .timedOut,
                    cause: "CRIU did not answer in time",
                    remedy: "look at the machine's load and at the log, then try again"
                )
            }
            if files[0].revents != 0 {
                var buffer = [UInt8](repeating: 0, count: 65536)
                let flags = Int32(MSG_DONTWAIT)
                let count = recv(socket.raw, &buffer, buffer.count, flags)
                let code = errno
                if count > 0 { return Array(buffer[..<count]) }
                if count == 0 || code == ECONNRESET { return nil }
                if code != EINTR && code != EAGAIN { throw SyscallError("recv", code: code, subject: "criu swrk") }
            } else if files[1].revents != 0 {
                return nil
            }
        }
    }

    /// Waits for swrk's end and reaps it.
    ///
    /// One that hangs is killed, except while it may hold a source's tasks: that one is left to finish its roll-back,
    /// which it begins when it finds the socket closed.
    private func end(before deadline: ContinuousClock.Instant) {
        socket.close()
        let ended = (try? child.hasEnded(within: deadline.millisecondsLeft)) ?? true
        if !ended {
            guard restores else { return }
            try? child.signal(SIGKILL)
        }
        _ = try? child.wait()
    }
}
