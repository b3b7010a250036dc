/// The requests that `criu swrk` is sent, with CRIU's documented field numbers (criu.org/RPC, rpc.proto).
enum CriuRequest {
    static let dumpType = 1
    static let restoreType = 2
    static let notifyType = 6

    /// `criu_opts` that a dump and a restore share.
    private static func commonOptions(imagesDirectory: Int32, log: String) -> ProtobufWriter {
        var options = ProtobufWriter()
        options.integer(1, Int(imagesDirectory))  // images_dir_fd, a descriptor of ours
        options.flag(5, true)  // tcp_established
        options.flag(8, true)  // file_locks
        options.integer(9, 1)  // log_level: errors only; more costs about 5 ms
        options.string(10, log)  // log_file, in the images directory
        options.flag(12, true)  // notify_scripts
        options.flag(18, true)  // link_remap
        options.integer(34, 0)  // manage_cgroups_mode IGNORE: swrk is where the tasks shall be
        options.integer(35, CriuLimits.ghostFile)  // ghost_limit
        options.integer(64, 3)  // network_lock SKIP: the agent blocks the link itself
        return options
    }

    /// `external`: mounts whose source lies outside, as `(mount point inside, name in the images)`.
    static func dump(
        pid: Int32,
        imagesDirectory: Int32,
        log: String,
        external: [ExternalMount] = []
    ) -> [UInt8] {
        var options = commonOptions(imagesDirectory: imagesDirectory, log: log)
        options.integer(2, Int(pid))
        options.flag(3, true)  // leave_running: the cgroup keeps them frozen
        for mount in external { options.string(37, "mnt[\(mount.mountPoint)]:\(mount.name)") }
        return request(dumpType, options)
    }

    static func restore(
        root: String,
        imagesDirectory: Int32,
        log: String,
        lazyPages: Bool = false,
        external: [ExternalMount] = []
    ) -> [UInt8] {
        var options = commonOptions(imagesDirectory: imagesDirectory, log: log)
        options.string(13, root)
        if lazyPages { options.flag(48, true) }  // lazy_pages: memory comes through lazy-pages.socket
        options.flag(26, true)  // rst_sibling: init becomes our child, as after a launch
        let sources = Set(external.map { "mnt[\($0.name)]:\($0.source)" })
        for source in sources.sorted() { options.string(37, source) }
        return request(restoreType, options)
    }

    /// The answer to a notification.
    static func acknowledge(_ success: Bool) -> [UInt8] {
        var message = ProtobufWriter()
        message.integer(1, notifyType)
        message.flag(3, success)  // notify_success
        return message.bytes
    }

    private static func request(_ type: Int, _ options: ProtobufWriter) -> [UInt8] {
        var message = ProtobufWriter()
        message.integer(1, type)
        message.message(2, options.bytes)
        return message.bytes
    }
}

/// What `criu swrk` sends.
enum CriuResponse: Equatable {
    /// CRIU waits at a point of its work for an acknowledgement; `pid` is the restored init's where CRIU tells it.
    case notification(String, pid: Int32?)
    /// The end; `pid` is the restored init's, in the pid namespace of swrk.
    case result(success: Bool, pid: Int32?)

    /// Decodes a packet; nil for anything that CRIU does not send.
    init?(_ bytes: [UInt8]) {
        guard let message = ProtobufMessage(bytes), let type = message.integer(1) else { return nil }
        if type == CriuRequest.notifyType {
            guard let notify = message.message(5), let script = notify.string(1) else { return nil }
            self = .notification(script, pid: notify.integer(2).map { Int32(truncatingIfNeeded: $0) })
            return
        }
        guard let success = message.integer(2) else { return nil }
        let pid = message.message(4)?.integer(1).map { Int32(truncatingIfNeeded: $0) }
        self = .result(success: success != 0, pid: pid)
    }
}

/// Limits of what CRIU carries.
package enum CriuLimits {
    /// Largest open file without any name that is dumped, bytes: it goes into CRIU's images.
    package static let ghostFile = 64 << 20
}
