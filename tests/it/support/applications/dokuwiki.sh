#!/bin/sh
# A DokuWiki of its own in a directory, from what Debian installed; its people are those that the gateway names.
# Takes a port and the directory.
set -eu
site="$2/site"
cp -rL /usr/share/dokuwiki "$site"
cp -rL /etc/dokuwiki "$site/conf"
cp -rL /var/lib/dokuwiki/data "$site/data"
rm -f "$site/install.php" "$site/conf/local.php" "$site/conf/users.auth.php"
mkdir -p "$site/lib/plugins/authgateway"
cat >"$site/inc/preload.php" <<PHP
<?php
if (!defined('DOKU_CONF')) define('DOKU_CONF', '$site/conf/');
PHP
cat >"$site/conf/local.php" <<PHP
<?php
\$conf['title'] = 'An old wiki';
\$conf['useacl'] = 1;
\$conf['authtype'] = 'authgateway';
\$conf['savedir'] = '$site/data';
\$conf['disableactions'] = 'register,resendpwd,profile';
PHP
cat >"$site/lib/plugins/authgateway/plugin.info.txt" <<'TXT'
base authgateway
author nobody
email nobody@example.com
date 2026-01-01
name gateway
desc People are those that the gateway names.
url https://example.com
TXT
cat >"$site/lib/plugins/authgateway/auth.php" <<'PHP'
<?php
class auth_plugin_authgateway extends DokuWiki_Auth_Plugin
{
    public function __construct()
    {
        parent::__construct();
        $this->cando['external'] = true;
        $this->success = true;
    }

    public function trustExternal($user, $pass, $sticky = false)
    {
        global $USERINFO;
        $name = $_SERVER['HTTP_REMOTE_USER'] ?? '';
        if ($name === '') {
            return false;
        }
        $groups = array_filter(explode(',', $_SERVER['HTTP_REMOTE_GROUPS'] ?? ''));
        $USERINFO = ['name' => $name, 'mail' => $_SERVER['HTTP_REMOTE_EMAIL'] ?? '', 'grps' => array_values($groups)];
        $_SERVER['REMOTE_USER'] = $name;
        return true;
    }
}
PHP
exec php -S "127.0.0.1:$1" -t "$site"
