import LinuxSystem

extension CriuInstallation {
    /// Runs `criu check` once per host: proves that the kernel has what CRIU needs, and leaves CRIU's findings cached
    /// in `/run/criu.kdat`, which saves every later request about 35 ms.
    ///
    /// The cache is only written where `/run` is a tmpfs.
    ///
    /// - Throws: `hostUnsuitable` with CRIU's own words.
    package func check() throws(IsolationError) {
        let request = request(["check"])
        var command = HelperCommand(request.arguments)
        command.environment = request.environment
        let result: HelperResult
        do {
            result = try command.run(timeout: .seconds(30))
        } catch {
            throw IsolationError(
                .hostUnsuitable,
                cause: "CRIU could not be started: \(error)",
                remedy: "run scripts/install-criu again"
            )
        }
        guard result.status == 0 else {
            throw IsolationError(
                .hostUnsuitable,
                cause: "this kernel lacks something that CRIU \(version) needs",
                remedy: "read CRIU's words below; kernel 6.12 or later with CONFIG_CHECKPOINT_RESTORE is needed",
                log: result.output + result.error
            )
        }
    }
}

extension SandboxHost {
    /// Where CRIU keeps what it has found out about the kernel.
    private static let findings = "/run/criu.kdat"

    /// Lets CRIU examine the kernel once per boot, before the first dump would have to, and before any network is
    /// blocked, which the examination would take for a lack of the kernel's.
    ///
    /// A host without a usable CRIU runs sandboxes all the same: `smirun doctor` and the first hand-off say what is
    /// missing. Where `/run` is no tmpfs CRIU keeps nothing, so that looking in advance would be in vain.
    func examineKernel() {
        guard !Directories.exists(Self.findings), Mounts.type(of: "/run") == "tmpfs" else { return }
        try? criu().check()
    }
}
