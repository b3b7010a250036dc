import Glibc
import LinuxSystem

extension CriuService {
    /// The log that a dump leaves in the images directory; not part of the cut.
    package static let dumpLog = "dump.log"

    /// Dumps a sandbox and leaves it stopped as `onDumped` left its cgroup.
    ///
    /// Blocks its thread. Callbacks run on it: `onSeized` when every process is stopped and nothing has been dumped (block
    /// the network here), `onDumped` when the images are complete (freeze the cgroup here). A callback that throws makes
    /// CRIU roll back, and its error comes out of this call.
    /// - Throws: `connectionPending` where a connection waits to be accepted (`CheckpointAttempts` tries again),
    ///   `notDumpable` naming the process and the reason, `checkpointFailed` or `timedOut`. The caller undoes its callbacks.
    package func dump(
        _ request: DumpRequest,
        within limit: Duration = .seconds(120),
        onSeized: () throws -> Void,
        onDumped: () throws -> Void
    ) throws -> DumpReport {
        let images = try Descriptor(open: request.images, O_RDONLY | O_DIRECTORY)
        let requested = ContinuousClock.now
        var seized = requested
        var dumped = requested
        var marked = false
        let message = CriuRequest.dump(
            pid: request.pid,
            imagesDirectory: images.raw,
            log: Self.dumpLog,
            external: request.external
        )
        do {
            let outcome = try converse(message, within: limit) { notification, _ in
                switch notification {
                case "query-ext-files":
                    seized = .now
                    try onSeized()
                case "post-dump":
                    dumped = .now
                    try onDumped()
                    marked = true
                    try LinkRemaps.keep(images: request.images)
                default:
                    break
                }
            }
            guard case .success = outcome else { throw CheckpointFailure.ofDump(request) }
        } catch {
            if marked { LinkRemaps.remove(images: request.images, rootOf: request.pid) }
            throw error
        }
        let files = Self.imageFiles(request.images)
        return DumpReport(
            requested: requested,
            seized: seized,
            dumped: dumped,
            finished: .now,
            bytes: files.reduce(0) { $0 + $1.size },
            processes: files.count { $0.name.hasPrefix("ids-") }
        )
    }

    private static func imageFiles(_ directory: String) -> [(name: String, size: Int64)] {
        Directories.entries(of: directory).filter { $0.hasSuffix(".img") }.map { name in
            var status = stat()
            let found = lstat(directory + "/" + name, &status) == 0
            return (name, found ? Int64(status.st_size) : 0)
        }
    }
}
