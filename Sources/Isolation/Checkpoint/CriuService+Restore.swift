import Glibc
import LinuxSystem

extension CriuService {
    /// The log that a restore leaves in the images directory.
    package static let restoreLog = "restore.log"

    /// Restores a cut; returns when every process exists and CRIU has gone.
    ///
    /// Blocks its thread. `onPreResume` is given init's pid on this host when all processes stand before their first
    /// instruction: move swrk (`child.pid`) out of the cgroups and freeze the cgroup there. Without that, or when it throws,
    /// everything restored is killed.
    /// - Throws: `restoreFailed` with CRIU's words, or what `onPreResume` threw. The caller empties the cgroup.
    package func restore(
        _ request: RestoreRequest,
        within limit: Duration = .seconds(120),
        onPreResume: (_ pid: Int32) throws -> Void
    ) throws -> RestoreReport {
        let images = try Descriptor(open: request.images, O_RDONLY | O_DIRECTORY)
        let requested = ContinuousClock.now
        var restored = requested
        var root: Int32 = -1
        let message = CriuRequest.restore(
            root: request.root,
            imagesDirectory: images.raw,
            log: Self.restoreLog,
            lazyPages: request.lazyPages,
            external: request.external
        )
        let outcome: Outcome
        do {
            outcome = try converse(message, within: limit) { notification, pid in
                if let pid { root = pid }
                guard notification == "pre-resume" else { return }
                restored = .now
                try onPreResume(root)
            }
        } catch {
            Self.reap(root)
            throw error
        }
        guard case .success(let pid) = outcome else {
            Self.reap(root)
            throw CheckpointFailure.ofRestore(request)
        }
        return RestoreReport(pid: pid ?? root, requested: requested, restored: restored, finished: .now)
    }

    /// Kills and reaps a half-restored init, which is our child: the failed restore has not always done so.
    private static func reap(_ pid: Int32) {
        guard pid > 0, let handle = try? ProcessHandle(pid: pid), ProcessStat(pid: pid)?.parent == getpid() else {
            return
        }
        try? handle.signal(SIGKILL)
        _ = try? ChildProcess(pid: pid, pidfd: handle.pidfd).wait()
    }
}
