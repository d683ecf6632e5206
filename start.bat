@echo off
rem The page on the demo's base, without RVC. The first start installs what is needed into .venv; later ones open the page at once.
rem   start.bat [options of run.py app]            start.bat demo            start.bat test
setlocal
cd /d "%~dp0"
set "COMMAND=%~1"
if /i "%COMMAND%"=="demo" goto named
if /i "%COMMAND%"=="test" goto named
if /i "%COMMAND%"=="app" goto named
set "RUN=run.py app"
goto find
:named
set "RUN=run.py"
:find
set "PY=py -3.11"
py -3.11 -c "" >nul 2>nul
if not errorlevel 1 goto run
set "PY=python"
python -c "" >nul 2>nul
if not errorlevel 1 goto run
echo error: Python was not found: install Python 3.11 from python.org (tick "Add python.exe to PATH"), then start this again 1>&2
call :wait
exit /b 2
:run
%PY% %RUN% %*
set "CODE=%errorlevel%"
if not "%CODE%"=="0" call :wait
exit /b %CODE%
:wait
rem Started by a double click the window would close before its last line is read.
echo "%cmdcmdline:"=%" | find /i "%~nx0" >nul && pause
exit /b 0
