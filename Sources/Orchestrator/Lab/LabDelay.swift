import LinuxSystem

extension Lab {
    /// Delays a host's link, in the calling thread, for as long as both of its ends exist.
    ///
    /// Returns only by throwing.
    package func delayLink(_ name: String) throws(LabError) -> Never {
        let record = try record()
        let host = try record.host(name)
        guard let holder = host.holder, let fabric = record.fabric else { throw .notUp }
        throw try during("delaying the link of \(name)") { () throws(SyscallError) -> LabError in
            let link = try DelayLink(
                DelayLink.End(device: "eth0", process: holder.pid),
                DelayLink.End(device: host.port, process: fabric.pid)
            )
            try link.run(delay: .microseconds(Int64(record.plan.delay * 1000)))
        }
    }
}
